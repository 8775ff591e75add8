"""Operating prevalence: a model of a referral clinic, where one lesion in three is malignant, in a screening van."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax

from derm_ml.metrics.intervals import bootstrap, estimate
from derm_ml.metrics.one_answer import at_prevalence
from derm_ml.metrics.prevalence import estimated_prevalence, prevalence_metric, share_metrics

share = st.floats(0.001, 0.999)


def answers(n: int, share: float, rng: np.random.Generator, trained: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities calibrated at `trained`, of cases of which `share` are positive, and their labels."""
    y = (rng.random(n) < share).astype(float)
    evidence = 1.5 * rng.normal(size=n) + np.where(y == 1, 1.125, -1.125)  # its log likelihood ratio is itself
    return expit(evidence + logit(trained)), y


@given(share, share, st.floats(0.001, 0.999))
def test_the_way_there_and_back_is_none_and_two_classes_are_one_label(before, now, p):
    one = at_prevalence(np.array([p]), before, now)
    assert at_prevalence(one, now, before)[0] == pytest.approx(p, rel=1e-6)
    assert logit(one[0]) - logit(p) == pytest.approx(logit(now) - logit(before), abs=1e-6)
    classes = at_prevalence(np.array([[p, 1 - p]]), np.array([before, 1 - before]), np.array([now, 1 - now]))
    assert classes[0] == pytest.approx([one[0], 1 - one[0]])


def test_corrected_probabilities_mean_what_they_say_at_the_new_prevalence():
    p, y = answers(60_000, 0.02, np.random.default_rng(0))
    assert p.mean() > 3 * y.mean()  # as served: three times as many cancers as there are
    here = at_prevalence(p, 0.3, 0.02)
    assert here.mean() == pytest.approx(y.mean(), rel=0.05)
    sure = here > 0.1
    assert here[sure].mean() == pytest.approx(y[sure].mean(), abs=0.03)


@pytest.mark.parametrize("true", [0.02, 0.1, 0.3, 0.7])
def test_the_prevalence_is_found_without_a_label(true):
    p, _ = answers(20_000, true, np.random.default_rng(1))
    assert estimate(estimated_prevalence(0.3), p) == pytest.approx(true, abs=0.012)


def test_its_interval_covers_the_true_share():
    covered = 0
    for seed in range(40):
        p, _ = answers(200, 0.1, np.random.default_rng(seed))
        low, high = bootstrap(estimated_prevalence(0.3), np.arange(200), p, n=100)
        covered += low <= 0.1 <= high
    assert covered >= 34  # 38 are expected


def test_few_answers_and_impossible_shares_are_said():
    assert prevalence_metric(np.full(20, 0.3), 0.3, np.arange(20)).note == "50 answers are needed, there are 20"
    with pytest.raises(ValueError, match="between 0 and 1"):
        at_prevalence(np.array([0.5]), 0.3, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        estimated_prevalence(0.0)


def classes(n: int, shares: tuple[float, ...], trained: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities (n, L) calibrated at `trained`, of cases of which each class has its share."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(shares), n, p=shares)
    x = rng.normal(size=(n, len(shares))) + 1.5 * np.eye(len(shares))[truth]
    return softmax(1.5 * x + np.log(trained), axis=1)  # the log likelihood of class k is 1.5 x_k but for a constant


def test_shares_of_classes_are_found_together():
    trained, true = np.array([0.4, 0.4, 0.2]), (0.05, 0.85, 0.1)
    found = share_metrics(classes(1200, true, trained, 0), trained, np.arange(1200))
    assert [metric.value for metric in found] == pytest.approx(true, abs=0.035)
    assert sum(metric.value or 0 for metric in found) == pytest.approx(1, abs=1e-4)
    assert all((m.low or 0) < share < (m.high or 0) for m, share in zip(found, true, strict=True))


def test_two_classes_are_one_label():
    p, _ = answers(400, 0.1, np.random.default_rng(3))
    both = share_metrics(np.stack([p, 1 - p], axis=1), np.array([0.3, 0.7]), np.arange(400))
    one = prevalence_metric(p, 0.3, np.arange(400))
    assert both[0].value == pytest.approx(one.value, abs=1e-4)
    assert (both[0].low, both[0].high) == pytest.approx((one.low, one.high), abs=2e-3)


def test_few_answers_of_classes_are_said():
    notes = {metric.note for metric in share_metrics(np.full((20, 2), 0.5), np.array([0.5, 0.5]), np.arange(20))}
    assert notes == {"50 answers are needed, there are 20"}
