"""Patients of later deliveries, from the delivery to the report and to the table of a promotion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.recent import TABLE, recent_metric
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.trend import trend
from derm_ml.images.lesion_place import central
from derm_ml.model_folder import ModelFolder
from derm_ml.promotion.contract import ModelVersion
from derm_ml.promotion.decision import evidence_of, weigh
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # evaluates

LC = "lesion_classification"
TASK = get_task(LC)


def tinted(folder: Path, each: int, seed: int, shift: float = 14) -> Path:
    """Textures in class folders whose middle has, more or less, the colour of the class."""
    rng, middle = np.random.default_rng(seed), central(64, 64)
    for colour, label in enumerate(TASK.labels):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            texture = np.kron(rng.integers(60, 190, (8, 8, 3)), np.ones((8, 8, 1)))
            texture[middle, colour] += rng.normal(shift, 10) / middle.mean()
            Image.fromarray(texture.clip(0, 255).astype(np.uint8)).save(folder / label / f"{label}_{seed}_{number}.png")
    return folder


class Here:
    """Data of a promotion: the dataset there is, and no trial."""

    def __init__(self, dataset: Dataset) -> None:
        self.found = dataset

    def present(self, task) -> str:
        return self.found.md5

    def dataset(self, task, md5: str) -> Dataset:
        return self.found


def test_they_are_put_aside_reported_beside_the_test_split_and_decide_nothing(derm, colour_model, tmp_path):
    """A model that no longer holds for those who come today must show, and the gold test split must not move for it."""

    def run(*words: object) -> str:
        code, _, err = derm(*words)
        assert code in (0, 1), err  # 1: a check of so small a set fails
        return err

    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"tasks": {LC: {"recent": 0.4}}}))
    tinted(tmp_path / "data" / "raw" / LC / "start", 30, 1)
    run("prepare", LC)
    before = Dataset.open(tmp_path / "data" / "prepared" / LC)
    first, second, spoilt = (ModelFolder(tmp_path / "out" / LC / f"drawn-{name}") for name in ("a", "b", "c"))
    colour_model(first.path, before, 0.0, evaluated=False)
    assert "recent" not in run("evaluate", LC, first.path)
    assert TABLE not in Evaluation.load(first.evaluation("test")).tables

    run("deliver", LC, tinted(tmp_path / "later", 25, 2, shift=-14))  # their colours mean something else
    assert "recent" in run("prepare", LC)
    now = Dataset.open(tmp_path / "data" / "prepared" / LC)
    assert now.split_hashes["test"] == before.split_hashes["test"]
    colour_model(second.path, now, 0.35, evaluated=False)
    said = " ".join(run("evaluate", LC, second.path).split())
    measured = Evaluation.load(second.evaluation("test"))
    value, split_hash = recent_metric(measured, "auc_mean")
    assert (split_hash, value.n) == (now.split_hashes["recent"], len(now.split("recent")))
    assert value.high < measured.metrics["auc_mean"].low, "the planted change shows"
    assert f"Mean AUC on recent patients (split {split_hash}): {value}" in said
    alone = Evaluation.load(second.evaluation("recent"))
    assert (alone.metrics["auc_mean"], alone.split_hash) == (value, split_hash)
    page = (second.evaluation("test") / "report.html").read_text()
    assert 'id="recent">Recent patients</h2>' in page
    assert "Nothing was learned from them. No promotion rests on them." in page
    assert "No evidence for promotion" in (second.evaluation("recent") / "report.html").read_text()

    assert "trend" in measured.figures
    steps = trend(tmp_path / "out" / LC, "auc_mean")
    assert [(step.name, sorted(step.reached)) for step in steps] == [
        ("drawn-a", ["test"]),
        ("drawn-b", ["recent", "test"]),
    ]

    decision = weigh(
        TASK,
        evidence_of(TASK, ModelVersion(2, second.bundle, second.evaluation("test")), Here(now)),
        None,
        Here(now),
    )
    (row,) = [check for check in decision.checks if check.check == "recent_patients"]
    assert (row.verdict, row.stops) == ("for information", False)
    assert str(value) in row.evidence
    assert not [reason for reason in decision.reasons if "recent" in reason]

    learned = now.manifest.assign(split=now.manifest["split"].replace("recent", "train"))
    colour_model(spoilt.path, Dataset(now.path, now.info, learned), 0.0, evaluated=False)
    run("evaluate", LC, spoilt.path)
    caption = Evaluation.load(spoilt.evaluation("test")).captions[TABLE]
    assert f"{value.n} of the {value.n} recent images" in caption
    assert "are in the data the model learned from" in caption
    assert "Nothing was learned" not in caption


def test_one_recent_image_stops_no_evaluation(derm, colour_model, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"tasks": {LC: {"recent": 0.999}}}))
    tinted(tmp_path / "data" / "raw" / LC / "start", 30, 1)
    derm("prepare", LC)
    later = tinted(tmp_path / "later", 1, 3)
    for label in TASK.labels[1:]:
        next((later / label).iterdir()).unlink()
        (later / label).rmdir()
    assert derm("deliver", LC, later)[0] == 0
    derm("prepare", LC)
    now = Dataset.open(tmp_path / "data" / "prepared" / LC)
    assert len(now.split("recent")) == 1
    model = ModelFolder(tmp_path / "out" / LC / "drawn-a")
    colour_model(model.path, now, 0.0, evaluated=False)
    code, _, err = derm("evaluate", LC, model.path)
    assert code == 0, err
    assert "on recent patients" in err
    assert "undefined" in err
