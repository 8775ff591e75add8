"""Nobody does anything: an honest delivery becomes the champion, three that would spoil the next model are stopped."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.data.dataset import Dataset
from derm_ml.images.changes import cropped, turned
from derm_ml.places import PROJECT
from derm_ml.promotion import CHAMPION
from derm_ml.registry import get_task
from derm_ml.synthetic.planted import plant

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
RECIPE = {"drawn": {"epochs": 6, "side": 64, "workers": 0}}
PARAMS = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
SETTINGS = {
    "automation": {TASK.name: {"new_patients": 1, "look_every": 1, "promotion": "automatic", "recipe": RECIPE}},
    "tasks": PARAMS["tasks"] | {TASK.name: {"test": 0.3}},
}
STOPPED = {
    "exchanged": r"the champion and the labels disagree: Mean AUC is 0\.\d+",
    "again": r"of its \d+ usable images must not be learned from, .*it shows the same image as ",
    "off_topic": r"the champion abstains from \d+ of the \d+ images",
}


@pytest.fixture(scope="module")
def operator() -> tuple[dict[str, str], dict[str, Any]]:
    return {}, SETTINGS


def planted(fault: str, share: float, batch: Path, scratch: Path) -> None:
    """A delivery of 60 synthetic lesions with a fault, moved to the inbox whole."""
    drawn = scratch / "drawn"
    TASK.draw(drawn, 60, seed=11)
    plant(TASK.read(drawn, TASK.settings()), drawn, scratch / "set", [fault], share, 0, TASK.negative)
    shutil.move(scratch / "set", batch)


def disguised(data: Dataset, batch: Path, scratch: Path) -> None:
    """The test images under new names, turned by 15° and cropped."""
    (scratch / "images").mkdir(parents=True)
    rows = ["filename,label"]
    for k, row in enumerate(data.split("test").to_dict("records")):
        image = cropped(turned(data.image(row), 15, "cut"), 0.1)
        cv2.imwrite(str(scratch / "images" / f"new{k}.png"), image[..., ::-1])
        rows.append(f"new{k}.png,{row['label']}")
    (scratch / "labels.csv").write_text("\n".join(rows) + "\n")
    shutil.move(scratch, batch)


def test_honest_deliveries_become_champions_and_spoiled_ones_wait_with_a_reason(installation, tmp_path):
    """Half of the labels exchanged, test images in disguise or photographs of something else: learned from, each
    would spoil the next model or flatter it, and nobody would have looked."""
    places, registry = installation.places, ModelRegistry(places=installation.places)
    inbox = places.incoming(TASK)
    subprocess.run([sys.executable, "-m", "derm_assets.automate", TASK.name], check=True, capture_output=True)
    TASK.draw(tmp_path / "first", 150, seed=1)
    inbox.mkdir(parents=True)
    shutil.move(tmp_path / "first", inbox / "first")
    until(lambda: registry.alias(TASK, CHAMPION) == 1, installation)
    first = Dataset.open(places.prepared(TASK))

    planted("label-noise", 0.5, inbox / "exchanged", tmp_path / "exchanged")
    planted("off-topic", 1.0, inbox / "off_topic", tmp_path / "off_topic")
    disguised(first, inbox / "again", tmp_path / "again")
    until(lambda: all((inbox / "rejected" / f"{name}.txt").is_file() for name in STOPPED), installation)
    for name, reason in STOPPED.items():
        said = (inbox / "rejected" / f"{name}.txt").read_text(encoding="utf-8")
        assert re.search(reason, said), said
        assert "--reviewed-by NAME" in said, said
    assert Dataset.open(places.prepared(TASK)).md5 == first.md5
    assert registry.alias(TASK, CHAMPION) == 1

    TASK.draw(tmp_path / "second", 60, seed=2)
    shutil.move(tmp_path / "second", inbox / "second")
    until(lambda: len(registry.registered(TASK)) == 2, installation)
    second = Dataset.open(places.prepared(TASK))
    assert second.split_hashes["test"] == first.split_hashes["test"]
    assert len(second.split("train")) > len(first.split("train"))


def until(what, installation, seconds: float = 900) -> None:
    """Until it holds; the limit is only there so that a broken product ends the test."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return
        time.sleep(0.5)
    runs = installation.instance.get_runs()
    raise AssertionError([(run.job_name, run.status, run.tags.get("batch")) for run in runs])
