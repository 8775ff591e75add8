"""`derm calibrate`: thresholds for another place, on labelled cases from there, without training again."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import freeze
from derm_ml.evaluation.classification import fitted_elsewhere
from derm_ml.evaluation.gates import probabilities_are_calibrated
from derm_ml.evaluation.notes import of_local_cases
from derm_ml.metrics.glossary import metric_named
from derm_ml.model_folder import ModelFolder
from derm_ml.places import installation
from derm_ml.predictions.classifier import predict_rows
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.training.local_cases import USED, local_cases

pytestmark = pytest.mark.slow  # evaluates

TASK = get_task("lesion_classification")


@pytest.fixture
def model(trained, drawn_dataset, tmp_path, derm) -> ModelFolder:
    """A trained model, called as a person likes, and the data it was trained on."""
    freeze(drawn_dataset.path, installation().version(TASK.name, drawn_dataset.md5))
    return ModelFolder(shutil.copytree(trained, tmp_path / "out" / TASK.name / "our-model"))


def test_the_thresholds_are_those_of_the_place_and_the_network_is_not_trained_again(
    derm, model, drawn_dataset, tinted_dataset, monkeypatch
):
    """A threshold that found 95 % of the cancers at home missed every seventh elsewhere."""
    monkeypatch.setattr("derm_ml.cli.terminal.PAUSE", 0.0)
    code, out, err = derm("calibrate", TASK.name, tinted_dataset.path, "--model", model.path)
    assert code == 0, err
    used = [*(drawn_dataset.split(name) for name in USED), *(tinted_dataset.split(name) for name in USED)]
    asked, judged = sum(map(len, used)), 2 * len(tinted_dataset.split("test"))
    assert f"calibrate · fit: {asked} of {asked}" in err, "minutes in which nobody knows whether it goes on"
    assert f"calibrate · measure before and after: {judged} of {judged}" in err
    assert "loss train" not in err, "an epoch was trained"
    made = ModelFolder(Path(out.strip().splitlines()[-1]))
    before, after = Classifier(model.bundle), Classifier(made.bundle)
    assert after.bundle.model.read_bytes() == before.bundle.model.read_bytes()
    assert after.bundle.version != before.bundle.version

    rows = tinted_dataset.manifest.loc[tinted_dataset.manifest["split"].isin(USED)]
    local = after.card.local_cases
    assert local is not None
    assert (local.dataset_md5, local.images) == (tinted_dataset.md5, len(rows))
    assert {point.split for point in after.card.operating_points} == {"local"}
    p, y = predict_rows(after, tinted_dataset, rows).probabilities, tinted_dataset.targets(rows)
    for point in after.card.operating_points:
        column = after.card.labels.index(point.label)
        flagged = p[:, column] >= point.threshold
        assert point.sensitivity == pytest.approx(flagged[y[:, column] == 1].mean())
        assert point.specificity == pytest.approx((~flagged)[y[:, column] == 0].mean())
    shares = [after.card.prevalence[label] for label in after.card.labels]
    np.testing.assert_allclose(shares, np.nanmean(y, axis=0))

    assert "on the cases held back" in out
    title = metric_named(f"sensitivity_{after.card.labels[0]}_at_balanced").title
    assert title in out

    # its own test split cannot judge these thresholds; the local one can
    at_home, there = fitted_elsewhere(after.card, drawn_dataset), fitted_elsewhere(after.card, tinted_dataset)
    assert at_home["local_cases"].value == local.images
    assert there == {}
    found = probabilities_are_calibrated(SimpleNamespace(metrics=at_home))
    assert not found.evaluable
    assert "these images cannot judge them" in found.message
    assert "says nothing about that place" in of_local_cases(after.card, drawn_dataset.md5)[0]


def test_cases_that_prove_nothing_are_refused_with_a_sentence(derm, model, drawn_dataset, tinted_dataset):
    code, _, err = derm("calibrate", TASK.name, drawn_dataset.path, "--model", model.path)
    assert code == 2
    assert "of the local images are in the model's own training or validation split" in " ".join(err.split())
    code, _, err = derm("calibrate", TASK.name, "nowhere", "--model", model.path)
    assert (code, "nowhere is not a folder" in err) == (2, True)
    with pytest.raises(DataError, match="local_cases=0123: there is no such data version in"):
        local_cases(drawn_dataset, "0123")
