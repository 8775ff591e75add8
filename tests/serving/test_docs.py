"""The examples of docs/serving.md are run as they stand there: somebody copies them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from PIL import Image

from derm_ml.synthetic.faces import draw_face

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
HERE = "http://127.0.0.1:3000"
pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")


def examples() -> list[str]:
    """Every command with curl that is whole, its continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCS.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line.startswith("curl ") and "…" not in line]


def asked_of(command: str) -> str:
    """The task an example is for, by the names of its files."""
    names = {"lesion.jpg": "lesion_segmentation", "eye.jpg": "retinal_findings", "visit1.jpg": "persistent_conditions"}
    return next((task for name, task in names.items() if name in command), "lesion_classification")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture) -> Path:
    """The files that the examples name."""
    made = tmp_path_factory.mktemp("docs")
    for name in ("photo.jpg", "another.png", "lesion.jpg", "right_eye.jpg", "left_eye.jpg"):
        Image.fromarray(picture).save(made / name)
    for name in ("visit1.jpg", "visit2.jpg"):
        Image.fromarray(cv2.resize(draw_face(2), (480, 480))).save(made / name)
    boxes = {side: [{"label": "pimple", "box": [212, 304, 236, 330]}] for side in ("first", "second")}
    (made / "boxes.json").write_text(json.dumps(boxes))
    return made


def test_there_are_examples_of_every_task_and_path():
    found = examples()
    assert {asked_of(command) for command in found} == {
        "lesion_classification", "lesion_segmentation", "retinal_findings", "persistent_conditions"
    }  # fmt: skip
    for path in ("/predict", "/explain", "/similar", "/match"):
        assert any(path in command for command in found)


def test_every_example_does_what_it_says(
    folder, served, indexed, write_bundle, write_segmenter, write_pair_bundle, tmp_path
):
    bundles = {
        "lesion_classification": indexed,
        "lesion_segmentation": write_segmenter(tmp_path / "masks"),
        "retinal_findings": write_bundle(tmp_path / "eyes", task="retinal_findings", fellow=(0.3, 0.2, 0.0)),
        "persistent_conditions": write_pair_bundle(tmp_path / "pairs"),
    }
    for task, bundle in bundles.items():
        with served(task, bundle, f"docs_{task}") as address:
            for command in (c for c in examples() if asked_of(c) == task):
                ours = command.replace(HERE, address.rstrip("/")).replace("curl ", "curl -sS --fail-with-body ", 1)
                ours = ours.replace("| python ", f"| {sys.executable} ")
                done = subprocess.run(
                    ["bash", "-o", "pipefail", "-c", ours], cwd=folder, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
                if " -o " not in command and " > " not in command:
                    said = json.loads(done.stdout)
                    assert said.get("task") == task or said["code"]["coding"][0]["code"] == task  # of an Observation
    for name in ("seen.png", "nevus.png", "pair.png", "mask.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
