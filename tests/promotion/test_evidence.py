"""Evidence on real files: each forgery that once made a model champion is refused with a sentence of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from derm_ml.bundles.bundle import Bundle, BundleError, seal
from derm_ml.cards.statement import Statement
from derm_ml.data.dataset import Dataset
from derm_ml.data.learned_ids import LEARNED
from derm_ml.evaluation.record import Evaluation, EvaluationError
from derm_ml.evaluation.report import save as save_report
from derm_ml.files import sha256
from derm_ml.promotion.decision import decide
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.policy import Policy
from derm_ml.registry import get_task
from derm_ml.task import Task

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")


@pytest.fixture
def model(colour_models, tmp_path) -> Path:
    """A model folder with bundle and evaluation, to be tampered with."""
    return Path(shutil.copytree(colour_models["fair"], tmp_path / "model"))


def read(model: Path, dataset: Dataset, task: Task = TASK) -> Evidence:
    return Evidence.read(task, model / "bundle", model / "evaluation_test", dataset)


def refusal(model: Path, dataset: Dataset) -> str:
    """Why it is not promoted although there is no champion."""
    decision = decide(read(model, dataset), None, Policy.of(TASK), TASK.primary_metric)
    assert not decision.promote
    return "; ".join(decision.reasons)


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


def edit_predictions(model: Path, change: Callable[[pd.DataFrame], pd.DataFrame], recounted: bool) -> None:
    """Change the predictions and name their new sha256; `recounted`: evaluation.json says what they then give."""
    folder = model / "evaluation_test"
    table = change(pd.read_parquet(folder / "predictions.parquet"))
    table.to_parquet(folder / "predictions.parquet", index=False)

    def named(stored: dict) -> None:
        stored["predictions_sha256"] = sha256(folder / "predictions.parquet")

    edit_json(folder / "evaluation.json", named)
    if recounted:
        dataset = Dataset.open(model.parent / "dataset")
        metrics = TASK.recount(Bundle.open(model / "bundle").card, table, dataset)

        def again(stored: dict) -> None:
            stored["metrics"] = {name: vars_of(metric) for name, metric in metrics.items()}

        edit_json(folder / "evaluation.json", again)


def vars_of(metric) -> dict:
    return {name: getattr(metric, name) for name in ("value", "low", "high", "n", "note")}


def surer(table: pd.DataFrame) -> pd.DataFrame:
    """Every logit a little more right, probabilities to match: a better model that does not exist."""
    labels = [c.removeprefix("target.") for c in table if c.startswith("target.")]
    logits = table[[f"logit.{label}" for label in labels]].to_numpy()
    logits = logits + 2 * table[[f"target.{label}" for label in labels]].to_numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    for k, label in enumerate(labels):
        table[f"logit.{label}"], table[f"p.{label}"] = logits[:, k], shares[:, k]
    return table


def test_a_card_with_an_empty_field_is_not_promoted(model, tinted_dataset, monkeypatch, tmp_path):
    """Nobody is told what the model must not be used for."""
    text = Statement.path(TASK).read_text(encoding="utf-8")
    (tmp_path / "card.yaml").write_text(text.replace("intended_users:", "intended_users: '' #"), encoding="utf-8")
    monkeypatch.setattr("derm_ml.cards.statement.files", lambda _: tmp_path)
    why = "the model card says nothing under 'intended users' (Uses and directions): write `intended_users` into"
    assert refusal(model, tinted_dataset).startswith(why)


def test_images_that_may_not_be_sold_make_no_commercial_model(model, tinted_dataset, resealed, monkeypatch):
    """The licence of an image reaches the decision; for research the same model is fit."""
    folder = resealed(model / "bundle", licences={"CC0-1.0": 90, "CC-BY-NC-4.0": 45})
    shutil.rmtree(model / "bundle")
    shutil.move(folder, model / "bundle")
    task = get_task("lesion_classification")
    save_report(task.evaluate(task.load(model / "bundle"), tinted_dataset), model / "evaluation_test")
    assert read(model, tinted_dataset).unfit == ()
    commercial = Policy.of(TASK).model_copy(update={"target": "commercial"})
    monkeypatch.setattr(Policy, "of", classmethod(lambda cls, task: commercial))
    assert "the licences of 45 of 135 images do not allow or do not say: CC-BY-NC-4.0 (45)" in refusal(
        model, tinted_dataset
    )


def test_what_was_measured_is_counted_again(model, tinted_dataset):
    evidence = read(model, tinted_dataset)
    stored = Evaluation.load(model / "evaluation_test")
    assert (evidence.faults, evidence.red, evidence.red_data, evidence.flattered) == ((), (), (), ())
    assert evidence.value == pytest.approx(stored.metrics["auc_mean"].value)
    assert evidence.repeated == 32
    assert decide(evidence, None, Policy.of(TASK), TASK.primary_metric).promote


@pytest.mark.parametrize("field", ["value", "low", "high", "n"])
@pytest.mark.parametrize("metric", ["auc_mean", "ece"])
def test_a_metric_written_by_hand_is_not_believed(model, tinted_dataset, metric, field):
    def better(stored: dict) -> None:
        stored["metrics"][metric][field] = 0.9999 if field != "n" else 6000

    edit_json(model / "evaluation_test" / "evaluation.json", better)
    assert f"evaluation.json says other metrics than its predictions: {metric} " in refusal(model, tinted_dataset)


def test_a_metric_added_by_hand_is_not_believed(model, tinted_dataset):
    def add(stored: dict) -> None:
        stored["metrics"]["auc_tomorrow"] = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 60, "note": ""}

    edit_json(model / "evaluation_test" / "evaluation.json", add)
    assert "auc_tomorrow, which cannot be counted" in refusal(model, tinted_dataset)


def test_predictions_edited_by_hand_are_not_read(model, tinted_dataset):
    path = model / "evaluation_test" / "predictions.parquet"
    surer(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(EvaluationError, match="its sha256 is not the one in evaluation"):
        read(model, tinted_dataset)


def test_predictions_edited_with_their_hash_give_other_metrics(model, tinted_dataset):
    edit_predictions(model, surer, recounted=False)
    assert "evaluation.json says other metrics than its predictions" in refusal(model, tinted_dataset)


def test_predictions_and_metrics_edited_together_are_predicted_again(model, tinted_dataset, tmp_path):
    shutil.copytree(tinted_dataset.path, tmp_path / "dataset")
    edit_predictions(model, surer, recounted=True)
    said = refusal(model, tinted_dataset)
    assert "of 32 test cases predicted again differ from the stored predictions: test_" in said
    assert "instead of" not in said  # the metrics do fit the forged predictions


def test_probabilities_edited_beside_their_logits_are_noticed(model, tinted_dataset):
    """The one edited case may not be among those predicted again."""

    def one(table: pd.DataFrame) -> pd.DataFrame:
        labels = [c for c in table if c.startswith("p.")]
        table.loc[3, labels] = table.loc[3, labels].to_numpy()[::-1]
        return table

    edit_predictions(model, one, recounted=False)
    assert "are not its logits, calibrated" in refusal(model, tinted_dataset)


def test_labels_edited_in_the_predictions_change_nothing(model, tinted_dataset, tmp_path):
    """What is true stands in the dataset; the copy in the predictions is for people."""
    shutil.copytree(tinted_dataset.path, tmp_path / "dataset")

    def flip(table: pd.DataFrame) -> pd.DataFrame:
        for column in [c for c in table if c.startswith("target.")]:
            table[column] = 1 - table[column]
        return table

    before = read(model, tinted_dataset).value
    edit_predictions(model, flip, recounted=True)
    assert read(model, tinted_dataset).value == before


def test_predictions_that_do_not_cover_the_split_are_a_fault(model, tinted_dataset):
    """Leaving out the hard cases is the oldest way to a better number."""
    edit_predictions(model, lambda table: table.iloc[1:], recounted=False)
    said = refusal(model, tinted_dataset)
    assert "do not cover exactly the frozen split" in said
    assert "59 predictions for 60 cases" in said


def test_a_prediction_that_is_no_number_is_a_fault(model, tinted_dataset):
    """NaN compares as smaller than nothing, so a metric can come out as if the case were not there."""

    def without(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table.index[0], "p.melanoma"] = float("nan")
        return table

    edit_predictions(model, without, recounted=False)
    assert "a predicted probability is missing or not finite" in refusal(model, tinted_dataset)


def test_the_evaluation_on_validation_is_a_fault(model, tinted_dataset):
    """There the thresholds were chosen, and everything looks better."""
    shutil.rmtree(model / "evaluation_test")
    measured = TASK.evaluate(TASK.load(model / "bundle"), tinted_dataset, "validation")
    save_report(measured, model / "evaluation_test")
    assert "the evaluation is on the validation split, not on test" in refusal(model, tinted_dataset)


def test_an_evaluation_of_another_model_is_a_fault(model, colour_models, tinted_dataset):
    shutil.rmtree(model / "evaluation_test")
    shutil.copytree(colour_models["good"] / "evaluation_test", model / "evaluation_test")
    assert "the evaluation is of model" in refusal(model, tinted_dataset)


def test_an_evaluation_on_another_dataset_is_a_fault(model, drawn_dataset):
    assert "the one to measure on is" in refusal(model, drawn_dataset)


def test_an_evaluation_without_the_hash_of_its_predictions_is_made_again(model, tinted_dataset):
    edit_json(model / "evaluation_test" / "evaluation.json", lambda stored: stored.pop("predictions_sha256"))
    assert "run `derm evaluate` again" in refusal(model, tinted_dataset)


def test_a_model_that_knows_the_test_images_is_refused(model, tinted_dataset):
    """Splits dealt anew: what was learned is tested, whether its own dataset is still there or not."""
    table = tinted_dataset.manifest.copy()
    learned = table.index[table["split"] == "train"][:5]
    table.loc[learned, "split"] = "test"
    dealt_anew = Dataset(tinted_dataset.path, tinted_dataset.info, table)
    assert "5 of the 65 test images" in refusal(model, dealt_anew)


def test_a_model_that_does_not_say_what_it_learned_from_is_refused(model, tinted_dataset):
    (model / "bundle" / LEARNED).unlink()
    assert "does not say which images it learned from" in refusal(model, tinted_dataset)


def test_a_red_data_check_refuses_whenever_it_was_red(model, tinted_dataset):
    """Promoted alone, days after the run whose check was red."""
    table = tinted_dataset.manifest.copy()
    table.loc[[table.index[table["split"] == "train"][0], table.index[table["split"] == "test"][0]], "patient"] = "p1"
    crossing = Dataset(tinted_dataset.path, tinted_dataset.info, table)
    crossing.md5 = tinted_dataset.md5
    assert "a blocking data check fails: patients_do_not_cross_splits" in refusal(model, crossing)


def test_a_shard_with_a_flipped_byte_refuses(model, tinted_dataset, tmp_path):
    copy = Path(shutil.copytree(tinted_dataset.path, tmp_path / "copy"))
    image = tinted_dataset.manifest.iloc[0]
    shard = copy / "shards" / image["image.shard"]
    data = bytearray(shard.read_bytes())
    data[image["image.offset"] + image["image.size"] // 2] ^= 1
    shard.write_bytes(bytes(data))
    damaged = Dataset.open(copy)
    assert "the one to measure on is" in refusal(model, damaged)
    damaged.md5 = tinted_dataset.md5  # frozen under the right name from a corrupt cache
    assert "a blocking data check fails: images_decode: 1 stored files are damaged" in refusal(model, damaged)


def test_the_champions_network_with_another_temperature_is_no_better_model(
    colour_model, colour_models, tinted_dataset, tmp_path
):
    """It ranked 48 cases a little differently, and won."""
    colder = colour_model(tmp_path / "colder", tinted_dataset, 0.35, temperature=3.0)
    candidate, champion = read(colder.parent, tinted_dataset), read(colour_models["fair"], tinted_dataset)
    assert candidate.model_version != champion.model_version
    decision = decide(candidate, champion, Policy.of(TASK), TASK.primary_metric)
    assert "it is the champion's own network with another calibration" in "; ".join(decision.reasons)


def test_a_card_sealed_by_hand_no_longer_fits_its_evaluation(model, tinted_dataset):
    card = Bundle.open(model / "bundle").card
    seal(model / "bundle", card.model_copy(update={"temperature": 2.0}))
    assert "the evaluation is of model" in refusal(model, tinted_dataset)


def test_one_bit_of_the_graph_is_not_read(model, tinted_dataset):
    path = model / "bundle" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="was changed or is damaged"):
        read(model, tinted_dataset)
