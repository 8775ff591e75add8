"""Each check of a classifier on planted truth: red where it must be, green where it must be, never green in silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.verdicts import FAILED, PASSED, UNKNOWN, Verdict
from derm_ml.images.lesion_place import central
from derm_ml.metrics.metric import Metric
from derm_ml.promotion.contract import ModelVersion
from derm_ml.promotion.decision import evidence_of, weigh
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.gates import fails_no_subgroup, holds_under_stress, ranks_by_the_lesion, serves_subgroups_alike
from derm_ml.registry import get_task
from derm_ml.synthetic.planted import plant

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")


class Here:
    """Datasets of a test: the one there is."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def present(self, task) -> str:
        return self._dataset.md5

    def dataset(self, task, md5: str) -> Dataset:
        return self._dataset

    def measure(self, task, bundle: Path, dataset_md5: str) -> Path:
        raise AssertionError("nothing is measured again here")


def decided(model: Path, dataset: Dataset):
    """The decision on a model folder where there is no champion."""
    data = Here(dataset)
    version = ModelVersion(0, model / "bundle", model / "evaluation_test")
    return weigh(TASK, evidence_of(TASK, version, data), None, data)


def verdict(decision, check: str) -> str:
    return next(row.verdict for row in decision.checks if row.check == check)


def tinted_outside(folder: Path) -> None:
    """Textures whose corners alone have the colour of the class: a network that reads them has learned no lesion."""
    rng, outside = np.random.default_rng(3), ~central(64, 64)
    for split, count in (("train", 15), ("valid", 10), ("test", 20)):
        for colour, label in enumerate(TASK.labels):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                texture = np.kron(rng.integers(60, 190, (8, 8, 3)), np.ones((8, 8, 1)))
                texture[outside, colour] += 60
                name = folder / split / label / f"{split}_{label}_{number}.png"
                Image.fromarray(texture.clip(0, 255).astype(np.uint8)).save(name)


@pytest.fixture(scope="module")
def outside_dataset(tmp_path_factory) -> Dataset:
    root = tmp_path_factory.mktemp("outside")
    tinted_outside(root / "raw")
    return Dataset.open(prepare(TASK, root / "raw", TASK.settings(), root / TASK.name).path)


def test_a_model_that_reads_the_corners_is_refused_with_its_own_sentence(colour_model, outside_dataset, tmp_path):
    colour_model(tmp_path, outside_dataset, 0.0)
    stored = Evaluation.load(tmp_path / "evaluation_test")
    assert (stored.value("auc_mean") or 0) > 0.8  # what made it champion before
    decision = decided(tmp_path, outside_dataset)
    assert not decision.promote
    assert verdict(decision, "ranks_by_the_lesion") == FAILED
    assert "the model reads what surrounds the lesion" in "; ".join(decision.reasons)
    assert [row.check for row in decision.checks if row.verdict == FAILED and row.blocking] == ["ranks_by_the_lesion"]


def test_a_model_that_reads_the_middle_passes_and_every_check_names_its_hazard(colour_models, tinted_dataset):
    decision = decided(colour_models["fair"], tinted_dataset)
    assert decision.promote
    assert verdict(decision, "ranks_by_the_lesion") == PASSED
    assert {row.check for row in decision.checks} >= {gate.name for gate in TASK.gates}
    assert all(row.hazard for row in decision.checks)


def test_what_cannot_be_judged_is_said_with_the_decision(colour_models, tinted_dataset):
    data, model = Here(tinted_dataset), colour_models["fair"]
    evidence = evidence_of(TASK, ModelVersion(0, model / "bundle", model / "evaluation_test"), data)
    small = Verdict("fails_no_subgroup", "not checked: every subgroup is too small", UNKNOWN)
    decision = weigh(TASK, replace(evidence, checks=(small,)), None, data)
    assert decision.promote
    assert "not enough data for the check fails_no_subgroup: every subgroup is too small" in decision.reasons


def test_a_probe_edited_by_hand_is_predicted_again(colour_model, outside_dataset, tmp_path):
    """The forgery that would undo the check: logits of a network that sees nothing with the lesion hidden."""
    from tests.promotion.test_evidence import edit_json, vars_of

    colour_model(tmp_path, outside_dataset, 0.0)
    folder = tmp_path / "evaluation_test"
    table = pd.read_parquet(folder / "predictions.parquet")
    hidden = [name for name in table if name.startswith("lesion_hidden.logit.")]
    table[hidden] = np.random.default_rng(0).normal(size=table[hidden].shape)
    table.to_parquet(folder / "predictions.parquet", index=False)
    from derm_ml.bundles.bundle import Bundle
    from derm_ml.files import sha256

    metrics = TASK.recount(Bundle.open(tmp_path / "bundle").card, table, outside_dataset)

    def consistent(stored: dict) -> None:
        stored["predictions_sha256"] = sha256(folder / "predictions.parquet")
        stored["metrics"] = {name: vars_of(metric) for name, metric in metrics.items()}

    edit_json(folder / "evaluation.json", consistent)
    evidence = Evidence.read(TASK, tmp_path / "bundle", folder, outside_dataset)
    assert "predicted again differ from the stored predictions" in evidence.faults[0]
    assert "lesion_hidden.logit" in evidence.faults[0]


def test_an_evaluation_without_probes_is_no_evidence(colour_models, tinted_dataset):
    stored = Evaluation.load(colour_models["fair"] / "evaluation_test")
    before = replace(stored, metrics={name: m for name, m in stored.metrics.items() if name != "shortcut_score"})
    finding = ranks_by_the_lesion(before)
    assert not finding.passed
    assert finding.evaluable
    assert "run `derm evaluate lesion_classification MODEL` again" in finding.message


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Callable[..., Dataset]:
    """`planted("malignancy_screening", 240, "subgroup", share=0.3)`: a prepared synthetic set with these faults."""

    def make(name: str, n: int, *plants: str, share: float, seed: int = 5) -> Dataset:
        task, root = get_task(name), tmp_path_factory.mktemp("planted")
        task.draw(root / "drawn", n, seed)
        plant(task.read(root / "drawn", task.settings()), root / "drawn", root / "set", plants, share, seed,
              task.negative)  # fmt: skip
        return Dataset.open(prepare(task, root / "set", task.settings(), root / name).path)

    return make


@pytest.fixture(scope="module")
def shortcut(slow, planted, made_once) -> Evaluation:
    """A small network that learned from a dot in the colour of the label, with a fifth of the labels wrong."""
    dataset = planted(TASK.name, 180, "label-noise", "shortcut", share=0.5)
    recipe = TASK.recipe("drawn", epochs=6, side=64, workers=0)
    folder = made_once("shortcut_trained", lambda folder: TASK.fit(dataset, recipe, folder))
    return TASK.evaluate(TASK.load(folder / "bundle"), dataset)


def test_a_network_trained_on_a_planted_shortcut_is_found(shortcut):
    """It would be champion by every other number."""
    assert (shortcut.value("auc_mean") or 0) > 0.85
    finding = ranks_by_the_lesion(shortcut)
    assert finding.evaluable
    assert not finding.passed
    assert (shortcut.value("shortcut_score") or 0) > 0.7


@pytest.fixture(scope="module")
def honest(trained, planted) -> Evaluation:
    """An honest network, and a test split in which the labels of women are exchanged."""
    dataset = planted(TASK.name, 360, "subgroup", share=0.4, seed=11)
    return TASK.evaluate(TASK.load(trained / "bundle"), dataset)


def test_a_group_the_model_fails_in_is_found_though_the_whole_looks_well(honest):
    assert (honest.value("auc_mean") or 0) > 0.6
    finding = fails_no_subgroup(honest)
    assert not finding.passed
    assert finding.evaluable
    assert "sex female" in finding.message
    assert not serves_subgroups_alike(honest).passed
    tones = {row["subgroup"] for row in honest.tables["subgroups"] if row["attribute"] == "skin tone, estimated"}
    assert len(tones) > 1


def test_an_honest_network_reads_the_lesion_and_its_losses_are_tabled(honest):
    assert ranks_by_the_lesion(honest).passed
    rows = {row["change"]: row for row in honest.tables["stress"]}
    assert set(rows) == {"hair", "ruler", "ink", "dark_corner", "blur", "jpeg", "colour_cast", "rotation"}
    assert all(row["low"] <= row["loss"] <= row["high"] and row["n"] > 20 for row in rows.values())
    assert honest.figures["stress"][:4] == b"\x89PNG"
    assert holds_under_stress(honest).evaluable


@pytest.mark.parametrize(
    ("loss", "low", "passed"), [(0.3, 0.2, False), (0.3, -0.1, True), (0.05, 0.01, True), (None, None, None)]
)
def test_a_costly_change_warns_where_it_is_shown_to_cost(colour_models, loss, low, passed):
    stored = Evaluation.load(colour_models["fair"] / "evaluation_test")
    row = {"change": "hair", "n": 60, "loss": loss, "low": low, "high": loss, "remark": ""}
    finding = holds_under_stress(replace(stored, tables={"stress": [row]}))
    assert (finding.passed if finding.evaluable else None) == passed


def test_a_subgroup_nobody_can_judge_is_neither_red_nor_green(colour_models):
    stored = Evaluation.load(colour_models["fair"] / "evaluation_test")
    nobody = Metric(None, None, None, 0, "not evaluable: every subgroup is too small")
    finding = fails_no_subgroup(replace(stored, metrics=stored.metrics | {"auc_worst_subgroup": nobody}))
    assert not finding.passed
    assert not finding.evaluable
    assert "too small" in finding.message
