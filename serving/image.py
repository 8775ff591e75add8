"""The folder a container image of what is released is built from: only what serving reads, and nothing to compile.

    python -m serving.image lesion_classification out/image
    docker build -t derm/lesion_classification out/image
    docker run -p 3000:3000 -e DERM_TOKEN=$(openssl rand -hex 32) --read-only --tmpfs /tmp derm/lesion_classification

    python -m serving.image suite out/image                     # all released tasks in one process

The folder holds the Dockerfile of deploy/image, the pinned packages, the sources of the Bentos, and a home with the
Bentos, their models and release files. The container runs `python -m serving` as any machine does.
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
from serving import follow
from serving.follow import bento_model_folder
from serving.released import NotReleased, bento_folder, read_release

RECIPE = Path(__file__).resolve().parents[1] / "deploy" / "image"
SUITE = "suite"  # instead of a task: all that are released
HOME = "home"  # becomes DERM_HOME in the image
CODE = "code"  # becomes its PYTHONPATH
PACKAGES = "requirements.txt"


class CannotPack(DermError):
    """Bentos do not fit into one image; the message names them."""


def assemble(task: str, folder: Path) -> list[str]:
    """Write the folder for the released Bento of `task`, or for those of all tasks (`SUITE`); returns their tags.

    Raises `NotReleased` if nothing is, `BentoMLException` if a release names what is not in the store, and `CannotPack`
    for Bentos of different code or packages: one process runs one code.
    """
    tags = {task: read_release(task)} if task != SUITE else released_tags()
    bentos = {name: bentoml.get(tag) for name, tag in tags.items()}
    packages = {tag: Path(bentos[name].path_of(f"env/python/{PACKAGES}")).read_text() for name, tag in tags.items()}
    refuse_different({tag: bentos[name].info.labels.get(follow.CODE, "") for name, tag in tags.items()}, packages)
    with replacing_folder(folder) as temporary:
        for file in RECIPE.iterdir():
            shutil.copyfile(file, temporary / file.name)
        needed = sorted({line for text in packages.values() for line in text.splitlines()})
        (temporary / PACKAGES).write_text("\n".join(needed) + "\n", encoding="utf-8")
        first = next(iter(bentos.values()))
        shutil.copytree(first.path_of("src"), temporary / CODE)
        there = replace(installation(), home=temporary / HOME)
        for name, tag in tags.items():
            model = bento_model_folder(tag, name)
            shutil.copytree(
                bentos[name].path, there.bentos / bento_folder(tag).relative_to(bento_folder(tag).parents[2])
            )
            shutil.copytree(model, there.bentos / "models" / model.parent.name / model.name)
            write_json(there.release(name), RELEASE.stamped({"task": name, "bento": tag}))
        (temporary / "task").write_text("" if task == SUITE else task, encoding="utf-8")
        # the files of a home are its owner's alone; in the image another user reads them
        for path in temporary.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return list(tags.values())


def released_tags() -> dict[str, str]:
    """Task → its released Bento; one that is not released is said and left out. Raises `NotReleased` if none is."""
    found = {}
    for task in all_tasks():
        try:
            found[task] = read_release(task)
        except NotReleased as error:
            print(f"not in the image: {error}", file=sys.stderr)
    if not found:
        raise NotReleased("no task is released yet; promote a model first")
    return found


def refuse_different(codes: dict[str, str], packages: dict[str, str]) -> None:
    """Raises `CannotPack`: a suite opens no Bento of other code, and one package has one version."""
    if len(set(codes.values())) > 1:
        raise CannotPack(f"built from different code: {', '.join(codes)}; materialise the older ones' bento again")
    pins: dict[str, set[str]] = {}
    for line in {line for text in packages.values() for line in text.splitlines()}:
        pins.setdefault(line.partition("==")[0], set()).add(line)
    if twice := sorted(line for lines in pins.values() if len(lines) > 1 for line in lines):
        raise CannotPack(f"the Bentos need {', '.join(twice)}; materialise the older ones' bento again")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving.image", description=(__doc__ or "").split("\n")[0])
    names = (*all_tasks(), SUITE)
    parser.add_argument("task", choices=names, metavar="task", help=f"{', '.join(all_tasks())}; {SUITE}: all of them")
    parser.add_argument("folder", type=Path, help="is written anew")
    given = parser.parse_args()
    try:
        enter()
        tags = assemble(given.task, given.folder)
    except (DermError, BentoMLException) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{given.folder} holds {', '.join(tags)}; docker build -t derm/{given.task} {given.folder}")


if __name__ == "__main__":
    main()
