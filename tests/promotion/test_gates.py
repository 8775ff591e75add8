"""Each check of a classifier on planted truth: red where it must be, green where it must be, never green in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.faithful import Explained, faithful_metrics
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.verdicts import FAILED, PASSED, UNKNOWN, Verdict
from derm_ml.images.lesion_place import central
from derm_ml.metrics.classification import mean_roc_auc
from derm_ml.metrics.metric import Metric
from derm_ml.predictions.classifier import predictions_of
from derm_ml.promotion.contract import ModelVersion
from derm_ml.promotion.decision import evidence_of, weigh
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.gates import (
    fails_no_subgroup,
    heatmaps_are_faithful,
    holds_under_stress,
    probe_gates,
    ranks_by_the_lesion,
    serves_subgroups_alike,
)
from derm_ml.promotion.policy import Policy
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


@pytest.mark.parametrize("edited", ["lesion_hidden.logit", "explained.deletion"])
def test_a_probe_edited_by_hand_is_predicted_again(colour_model, outside_dataset, tmp_path, edited):
    """The forgery that would undo the check: logits of a network that sees nothing with the lesion hidden, or heatmaps
    that explain whatever is asked of them."""
    from tests.promotion.test_evidence import edit_json, vars_of

    colour_model(tmp_path, outside_dataset, 0.0)
    folder = tmp_path / "evaluation_test"
    table = pd.read_parquet(folder / "predictions.parquet")
    names = [name for name in table if name.startswith(edited)]
    table[names] = np.where(table[names].isna(), np.nan, np.random.default_rng(0).normal(size=table[names].shape))
    table[names] = table[names].clip(-1, 1) if edited.startswith("explained") else table[names]
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
    assert edited in evidence.faults[0]


@pytest.fixture
def drawn_over(colour_models, tmp_path):
    """`drawn_over(maps)`: a good model whose graph gives the same maps (1, L, 4, 4) of every image, sealed."""
    import onnx
    from onnx import helper, numpy_helper

    from derm_ml.bundles.bundle import read_card, seal

    def make(maps: np.ndarray) -> Path:
        bundle = Path(shutil.copytree(colour_models["good"] / "bundle", tmp_path / "bundle"))
        model = onnx.load(bundle / "model.onnx")
        relu = next(node for node in model.graph.node if node.output == ["maps"])
        relu.output[0] = "looked"
        model.graph.initializer.extend(
            [numpy_helper.from_array(np.float32(0), "nothing"), numpy_helper.from_array(maps.astype(np.float32), "own")]
        )
        model.graph.node.extend(
            [
                helper.make_node("Mul", ["looked", "nothing"], ["erased"]),
                helper.make_node("Add", ["erased", "own"], ["maps"]),
            ]
        )
        onnx.save(model, bundle / "model.onnx")
        seal(bundle, read_card(bundle))
        return bundle

    return make


@pytest.mark.parametrize("kind", ["even", "noise"])
def test_a_heatmap_that_shows_nothing_is_found_however_well_the_model_ranks(drawn_over, tinted_dataset, kind):
    """People trust an answer more for a picture of its reasons, also for one that has nothing to do with them."""
    noise = np.random.default_rng(1).random((1, 3, 4, 4))
    model = TASK.load(drawn_over(noise if kind == "noise" else np.ones((1, 3, 4, 4))))
    predictions = predictions_of(model, tinted_dataset, "test")
    cases = Cases.lined_up(model.card, predictions.rows, predictions.outputs)
    assert (mean_roc_auc(cases.probabilities, cases.targets, cases.groups).value or 0) > 0.9
    explained = Explained.made(model, tinted_dataset, predictions.rows, predictions.outputs)
    metrics = faithful_metrics(cases, explained)
    finding = heatmaps_are_faithful(SimpleNamespace(task=TASK.name, labels=TASK.labels, metrics=metrics))
    assert not finding.passed
    assert finding.evaluable
    assert "stay as they are when the weights of the head are random" in finding.message
    assert metrics["random_head_correlation"].value == pytest.approx(1)
    if kind == "even":  # an even map knows no order: its curves are those of chance
        assert metrics["order_gain"].value == 0
        assert metrics["heat_beyond_area"].value == pytest.approx(0, abs=1e-6)
        assert "not shown to be better" in finding.message


def test_an_honest_heatmap_passes_and_is_shown_in_the_report(colour_models, tinted_dataset):
    stored = Evaluation.load(colour_models["good"] / "evaluation_test")
    finding = heatmaps_are_faithful(stored)
    assert finding.passed, finding.message
    assert set(finding.figures) == {"order_gain", "random_head_correlation"}  # what Dagster plots over versions
    rows = stored.tables["explanations"]
    assert [rows[0][name] for name in ("hottest_first", "coldest_first")] == pytest.approx(
        [rows[0]["random_order"]] * 2
    )
    assert all(row["hottest_first"] < row["random_order"] < row["coldest_first"] for row in rows[1:-1])
    assert stored.figures["explanations"][:4] == b"\x89PNG"
    asked = pd.read_parquet(colour_models["good"] / "evaluation_test" / "predictions.parquet")["explained.deletion"]
    assert asked.notna().sum() == 36  # bounded, however large the split


def test_heat_beside_the_lesion_is_found(colour_model, outside_dataset, tmp_path):
    colour_model(tmp_path, outside_dataset, 0.0)
    finding = heatmaps_are_faithful(Evaluation.load(tmp_path / "evaluation_test"))
    assert not finding.passed
    assert "they lie outside the lesion more than an even map would" in finding.message


def test_the_policy_says_whether_an_unfaithful_heatmap_refuses(monkeypatch):
    def gate():
        return next(gate for gate in probe_gates(TASK.name) if gate.name == "heatmaps_are_faithful")

    assert not gate().blocking
    stricter = Policy.of(TASK).model_copy(update={"unfaithful": "refuses"})
    monkeypatch.setattr(Policy, "of", classmethod(lambda cls, task: stricter))
    assert gate().blocking


def test_an_evaluation_without_probes_is_no_evidence(colour_models, tinted_dataset):
    stored = Evaluation.load(colour_models["fair"] / "evaluation_test")
    before = replace(stored, metrics={name: m for name, m in stored.metrics.items() if name != "shortcut_score"})
    finding = ranks_by_the_lesion(before)
    assert not finding.passed
    assert finding.needed, "a model that was not probed would pass"
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
