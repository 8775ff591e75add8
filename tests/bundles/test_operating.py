"""What an answer says of another prevalence is what counting people there would say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from derm_ml.bundles.operating import asked_for

POINT = SimpleNamespace(label="malignant", name="recall_0.9", sensitivity=0.9, specificity=0.8)
ONE = SimpleNamespace(
    head="sigmoid", labels=("malignant",), prevalence={"malignant": 0.5}, operating_points=(POINT,), class_limits=()
)
CLASSES = SimpleNamespace(
    head="softmax",
    labels=("melanoma", "nevus", "other"),
    prevalence={"melanoma": 0.4, "nevus": 0.4, "other": 0.2},
    operating_points=(),
    class_limits=(0.1, 0.5, 0.0),
    set_error=0.1,
)
FINDINGS = SimpleNamespace(
    head="sigmoid", labels=("dr", "amd"), prevalence={"dr": 0.3, "amd": 0.1}, operating_points=(), class_limits=()
)


def test_the_ppv_is_that_of_a_thousand_people():
    """20 of 1000 have it: 18 are flagged, and 196 of the other 980."""
    found = asked_for(ONE, np.array([0.5]), {"prevalence": "0.02"})["at_prevalence"]
    assert found.ppv == {"malignant": {"recall_0.9": pytest.approx(18 / (18 + 196))}}
    assert found.probabilities == {"malignant": pytest.approx(0.02)}
    assert (found.prevalence, found.trained_at) == ({"malignant": 0.02}, {"malignant": 0.5})


def test_classes_that_exclude_each_other_are_corrected_together():
    """A likelihood of 2 : 1 : 1 stays what it is, whatever the shares."""
    found = asked_for(CLASSES, np.array([0.8, 0.4, 0.2]) / 1.4, {"prevalence": "melanoma:0.01,nevus:0.89,other:0.1"})
    weights = np.array([2 * 0.01, 0.89, 0.1])
    assert list(found["at_prevalence"].probabilities.values()) == pytest.approx(weights / weights.sum())


def test_a_finding_that_is_not_named_stays_as_it_is():
    found = asked_for(FINDINGS, np.array([0.3, 0.2]), {"prevalence": "dr:0.05"})["at_prevalence"]
    assert found.probabilities == {"dr": pytest.approx(0.05), "amd": 0.2}
    assert set(found.prevalence) == set(found.trained_at) == {"dr"}


def test_a_set_holds_the_classes_that_reach_their_limit():
    found = asked_for(CLASSES, np.array([0.5, 0.4, 0.1]), {"sets": "yes"})["prediction_set"]
    assert found.classes == ["melanoma", "other"]
    assert found.holds == pytest.approx(0.9)


def test_nothing_is_added_that_was_not_asked_for():
    assert asked_for(CLASSES, np.array([0.5, 0.4, 0.1]), {"sets": "no"}) == {}
    assert asked_for(ONE, np.array([0.5]), {"sets": "yes"}) == {}  # no class to leave out
