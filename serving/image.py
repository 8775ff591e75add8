"""The folder a container image of the released Bento is built from: only what serving reads, and nothing to compile.

    python -m serving.image lesion_classification out/image
    docker build -t derm/lesion_classification out/image
    docker run -p 3000:3000 -e DERM_TOKEN=$(openssl rand -hex 32) --read-only --tmpfs /tmp derm/lesion_classification

The folder holds the Dockerfile of deploy/image, the pinned packages, the sources of the Bento, and a home with the
Bento, its model and the release file. The container runs `python -m serving` as any machine does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException

from derm_ml import DermError
from derm_ml.entrance import enter
from derm_ml.files import replacing_folder, write_json
from derm_ml.formats import RELEASE
from derm_ml.places import installation
from derm_ml.registry import all_tasks
from serving.follow import bento_model_folder
from serving.released import bento_folder, read_release

RECIPE = Path(__file__).resolve().parents[1] / "deploy" / "image"
HOME = "home"  # becomes DERM_HOME in the image
CODE = "code"  # becomes its PYTHONPATH
PACKAGES = "requirements.txt"


def assemble(task: str, folder: Path) -> str:
    """Write the folder for the released Bento of `task`; returns its tag.

    Raises `NotReleased` if nothing is, and `BentoMLException` if the release names what is not in the store.
    """
    tag = read_release(task)
    bento, model = Path(bentoml.get(tag).path), bento_model_folder(tag, task)
    with replacing_folder(folder) as temporary:
        for file in RECIPE.iterdir():
            shutil.copyfile(file, temporary / file.name)
        shutil.copyfile(bento / "env" / "python" / PACKAGES, temporary / PACKAGES)
        shutil.copytree(bento / "src", temporary / CODE)
        there = replace(installation(), home=temporary / HOME)
        shutil.copytree(bento, there.bentos / bento_folder(tag).relative_to(bento_folder(tag).parents[2]))
        shutil.copytree(model, there.bentos / "models" / model.parent.name / model.name)
        write_json(there.release(task), RELEASE.stamped({"task": task, "bento": tag}))
        (temporary / "task").write_text(task, encoding="utf-8")
        # the files of a home are its owner's alone; in the image another user reads them
        for path in temporary.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return tag


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving.image", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", choices=tuple(all_tasks()), metavar="task", help=", ".join(all_tasks()))
    parser.add_argument("folder", type=Path, help="is written anew")
    given = parser.parse_args()
    try:
        enter()
        tag = assemble(given.task, given.folder)
    except (DermError, BentoMLException) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{given.folder} holds {tag}; docker build -t derm/{given.task} {given.folder}")


if __name__ == "__main__":
    main()
