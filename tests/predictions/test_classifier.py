"""One pass of a classifier: what is read again must be what was said, and a promotion must not read it."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import keep, predict_rows, predictions_of
from derm_ml.predictions.kept import About, read_kept, write_kept
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")


@pytest.fixture(scope="module")
def classifier(trained) -> Classifier:
    return Classifier(trained / "bundle")


def test_what_is_read_is_what_was_said_and_maps_are_kept_to_a_two_thousandth(classifier, drawn_dataset, tmp_path):
    asked = predict_rows(classifier, drawn_dataset, drawn_dataset.split("test"))
    made = predictions_of(classifier, drawn_dataset, "test", ModelFolder(tmp_path))
    done: list[int] = []
    read = predictions_of(classifier, drawn_dataset, "test", ModelFolder(tmp_path), done.append)
    assert not done
    assert list(read.rows["id"]) == list(drawn_dataset.split("test")["id"])
    for name in (f.name for f in fields(Outputs)):
        np.testing.assert_array_equal(getattr(made.outputs, name), getattr(read.outputs, name))
        assert getattr(read.outputs, name).dtype == np.float32
    np.testing.assert_array_equal(read.outputs.logits, asked.logits)
    np.testing.assert_array_equal(read.outputs.probabilities, asked.probabilities)
    np.testing.assert_array_equal(read.outputs.embedding, asked.embedding)
    hottest = asked.maps.max(axis=(2, 3), keepdims=True)
    assert read.outputs.maps.shape == asked.maps.shape
    assert (np.abs(read.outputs.maps - asked.maps) <= hottest / 2048).all()


def test_other_tools_can_read_the_table(classifier, drawn_dataset, tmp_path):
    said = predictions_of(classifier, drawn_dataset, "test", ModelFolder(tmp_path)).outputs
    table = pd.read_parquet(ModelFolder(tmp_path).predicted(drawn_dataset.md5, "test"))
    assert list(table.columns[:4]) == ["id", *(f"p.{label}" for label in classifier.labels)]
    np.testing.assert_array_equal(np.stack(table["embedding"]), said.embedding)


def test_fresh_and_kept_predictions_give_the_same_evaluation(classifier, drawn_dataset, tmp_path):
    fresh = TASK.evaluate(classifier, drawn_dataset)
    for _ in range(2):
        kept = TASK.evaluate(classifier, drawn_dataset, "test", ModelFolder(tmp_path))
        assert kept.summary() == fresh.summary()
        assert kept.figures == fresh.figures


def test_probabilities_that_were_edited_are_not_believed(classifier, drawn_dataset, tmp_path, caplog):
    said = predictions_of(classifier, drawn_dataset, "test", ModelFolder(tmp_path)).outputs
    about = About.of("classifier", classifier.bundle, drawn_dataset, "test")
    ids = drawn_dataset.split("test")["id"].tolist()
    table = read_kept(about.path(ModelFolder(tmp_path)), about, ids)
    better = table.set_column(1, table.column_names[1], [np.ones(len(ids), np.float32)])
    write_kept(about.path(ModelFolder(tmp_path)), about, better)
    again = predictions_of(classifier, drawn_dataset, "test", ModelFolder(tmp_path)).outputs
    np.testing.assert_array_equal(again.probabilities, said.probabilities)
    assert f"the probabilities of {ids[0]} are not its logits, calibrated; predicting again" in caplog.text


def test_a_promotion_predicts_afresh_whatever_is_kept(trained, drawn_dataset, tmp_path):
    """Else whoever can write into a model folder writes the evidence of its promotion."""
    shutil.copytree(trained / "bundle", tmp_path / "bundle")
    classifier, folder = Classifier(tmp_path / "bundle"), ModelFolder(tmp_path)
    said = predictions_of(classifier, drawn_dataset, "test").outputs
    forged = replace(said, logits=said.logits[::-1].copy())
    keep(folder, classifier.bundle, drawn_dataset, "test", forged)
    kept = predictions_of(classifier, drawn_dataset, "test", folder).outputs
    np.testing.assert_array_equal(kept.logits, forged.logits, "it is read where it is asked for")
    columns = [f"logit.{label}" for label in classifier.labels]
    measured = TASK.evaluate(classifier, drawn_dataset)  # as promotion measures on newer data
    np.testing.assert_allclose(measured.predictions[columns], said.logits, atol=1e-5)
    repeated = TASK.repeat(classifier, drawn_dataset, drawn_dataset.split("test")["id"].tolist()[:5])
    np.testing.assert_allclose(repeated[columns], said.logits[:5], atol=1e-4)


def test_training_keeps_what_it_calibrated_on(trained, classifier, drawn_dataset):
    """Calibration predicts the validation split through the graph: nobody needs to do it again."""
    done: list[int] = []
    kept = predictions_of(classifier, drawn_dataset, "validation", ModelFolder(trained), done.append)
    fresh = predictions_of(classifier, drawn_dataset, "validation")
    assert not done
    np.testing.assert_allclose(kept.outputs.probabilities, fresh.outputs.probabilities, atol=1e-5)
    np.testing.assert_allclose(kept.outputs.embedding, fresh.outputs.embedding, atol=1e-4)
