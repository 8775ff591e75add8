"""Operating prevalence: a model of a referral clinic, where one lesion in three is malignant, in a screening van."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from derm_ml.metrics.intervals import bootstrap, estimate
from derm_ml.metrics.prevalence import at_prevalence, estimated_prevalence, prevalence_metric

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
