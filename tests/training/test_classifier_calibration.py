"""Calibration is fitted from a card and logits: were it not, nobody could fit it again from what was saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from derm_ml.bundles.bundle import BundleCard, read_card
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier, concatenate
from derm_ml.training.classifier_calibration import CalibrationLogits, calibrated_card

pytestmark = pytest.mark.slow  # imports torch


@pytest.fixture(scope="module")
def said(trained, drawn_dataset) -> CalibrationLogits:
    rows = drawn_dataset.split("validation")
    asked = ((drawn_dataset.image(row), drawn_dataset.attributes(row)) for _, row in rows.iterrows())
    logits = concatenate(Classifier(trained / "bundle").batches(asked)).logits
    return CalibrationLogits(
        logits, drawn_dataset.targets(rows), rows["group"].to_numpy(str), drawn_dataset.split_hashes["validation"]
    )


@pytest.fixture(scope="module")
def bare(trained) -> BundleCard:
    """The bundle's card as it was before it was calibrated."""
    nothing = {"temperature": 1.0, "operating_points": (), "unclaimed_points": (), "prevalence": {}}
    return read_card(trained / "bundle").model_copy(update=nothing)


def test_the_card_of_a_trained_bundle_is_fitted_again_from_the_logits_of_its_graph(trained, said, bare):
    sealed = read_card(trained / "bundle")
    found = calibrated_card(bare, said, (0.90, 0.95))
    assert found.temperature == pytest.approx(sealed.temperature, rel=1e-4)
    assert found.prevalence == sealed.prevalence
    assert [(p.label, p.name) for p in found.operating_points] == [(p.label, p.name) for p in sealed.operating_points]
    for again, kept in zip(found.operating_points, sealed.operating_points, strict=True):
        assert again.threshold == pytest.approx(kept.threshold, abs=1e-4)
    assert bare.temperature == 1.0, "the card that was given is changed"


@pytest.mark.parametrize(("head", "labels"), [("sigmoid", 1), ("sigmoid", 3), ("softmax", 3)])
def test_each_head_is_calibrated_as_it_is_served(bare, head, labels):
    """Logits three times too sure, of labels as frequent as they are: what is served must say so."""
    rng = np.random.default_rng(3)
    true = rng.normal(-0.5, 1.5, (600, labels))
    if head == "softmax":
        shares = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
        targets = np.eye(labels)[(shares.cumsum(axis=1) > rng.random((600, 1))).argmax(axis=1)]
    else:
        targets = (rng.random(true.shape) < 1 / (1 + np.exp(-true))).astype(float)
    card = bare.model_copy(update={"head": head, "labels": tuple("abc"[:labels])})
    said = CalibrationLogits(3 * true.astype(np.float32), targets, np.arange(600).astype(str), "0" * 16)
    found = calibrated_card(card, said, (0.90,))
    assert (len(found.temperatures), len(found.bias)) == {
        ("softmax", 3): (0, 0), ("sigmoid", 1): (0, 1), ("sigmoid", 3): (3, 3)
    }[head, labels]  # fmt: skip
    np.testing.assert_allclose(calibrated(found, said.logits).mean(axis=0), targets.mean(axis=0), atol=0.03)
    before = calibrated(card, said.logits)
    wrong = lambda p: ((p - targets) ** 2).mean()  # noqa: E731
    assert wrong(calibrated(found, said.logits)) < wrong(before)


def test_labels_that_exclude_each_other_are_as_frequent_as_at_the_place_of_the_local_cases(bare):
    """One temperature cannot say that keratoses are rarer here: the mean probability stayed what it was at home."""
    rng = np.random.default_rng(5)
    targets = np.eye(3)[rng.choice(3, 900, p=[0.1, 0.8, 0.1])]
    logits = (targets + rng.normal(0, 1, (900, 3))).astype(np.float32)
    card = bare.model_copy(update={"head": "softmax", "labels": ("a", "b", "c")})
    local = CalibrationLogits(logits, targets, np.arange(900).astype(str), "0" * 16, "local")
    found = calibrated_card(card, local, (0.90,))
    np.testing.assert_allclose(calibrated(found, logits).mean(axis=0), targets.mean(axis=0), atol=1e-3)
    assert found.bias[1] > found.bias[0]
    home = calibrated_card(found, replace(local, split="validation"), (0.90,))
    assert home.bias == (), "fitted at home again, it still says how frequent labels are elsewhere"
