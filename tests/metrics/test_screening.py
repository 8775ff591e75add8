"""What a recall costs: a wrong precision or net benefit sends people to needless biopsies, or home with a cancer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_score, roc_curve

from derm_ml.metrics.intervals import clopper_pearson_low, estimate, positives_needed
from derm_ml.metrics.one_answer import precision_at
from derm_ml.metrics.operating_points import proportion
from derm_ml.metrics.screening import (
    decision_curve,
    net_benefit,
    partial_auc,
    partial_auc_metric,
    precision_at_recall,
    precision_limits,
    precision_metric,
    specificity_at_recall,
)

cases = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=4, max_size=60).filter(
    lambda rows: len({y for _, y in rows}) == 2
)


def arrays(rows):
    return np.array([s / 30 for s, _ in rows]), np.array([y for _, y in rows], float)


def test_the_published_headline_at_the_prevalence_of_a_clinic():
    """Recall 99.9 % at a specificity of 58.8 %: precision 70.8 % on a balanced set, 4.3 % where 1.8 % have a cancer."""
    assert precision_at(0.999, 0.588, 0.018) == pytest.approx(0.0426, abs=5e-5)
    assert precision_at(0.999, 0.588, 0.5) == pytest.approx(0.708, abs=5e-4)


@pytest.mark.parametrize(("recall", "needed"), [(0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995)])
def test_positives_needed_are_enough_and_one_less_is_not(recall, needed):
    assert positives_needed(recall) == needed
    for n, enough in ((needed, True), (needed - 1, False)):
        low = binomtest(n, n, alternative="greater").proportion_ci(0.95, method="exact").low
        assert (low >= recall) is enough
        assert low == pytest.approx(clopper_pearson_low(n, n), abs=1e-12)


@pytest.mark.parametrize("recall", [0.0, 1.0, 1.2])
def test_a_certain_recall_can_never_be_proved(recall):
    with pytest.raises(ValueError, match="between 0 and 1"):
        positives_needed(recall)


def test_a_set_without_a_false_positive_does_not_prove_a_precision_of_one():
    """30 benign lesions, none flagged: at a prevalence of 1 % the specificity may be 0.88, the precision 0.07."""
    y, groups = np.r_[np.ones(30), np.zeros(30)], np.arange(60)
    flagged = y == 1
    resampled = precision_metric(flagged, y, groups, 0.01)
    assert (resampled.low, resampled.high) == (1, 1)
    recall, spared = (proportion(flagged, y, groups, which) for which in (1, 0))
    low, high = precision_limits(recall, spared, 0.01, resampled)
    exact = binomtest(30, 30).proportion_ci(0.95, method="exact").low
    assert low == pytest.approx(0.01 * exact / (0.01 * exact + 0.99 * (1 - exact)))
    assert high == 1


@given(cases, st.sampled_from([0.5, 0.9, 0.99]))
def test_precision_at_a_recall_is_that_of_the_highest_threshold_that_reaches_it(rows, recall):
    s, y = arrays(rows)
    threshold = max(t for t in s if (s[y == 1] >= t).mean() >= recall - 1e-9)
    assert estimate(precision_at_recall(recall), s, y) == pytest.approx(precision_score(y, s >= threshold))


@settings(deadline=None)  # 200,001 points take longer on a busy machine
@given(cases)
def test_partial_area_is_that_of_scikit_learn_s_curve_above_80_per_cent(rows):
    s, y = arrays(rows)
    false, true, _ = roc_curve(y, s, drop_intermediate=False)
    fine = np.linspace(0, 1, 200_001)
    # scikit-learn's points, joined by lines, cut off at a recall of 0.8, summed numerically
    height = np.interp(fine, false + np.arange(len(false)) * 1e-12, true)
    expected = np.clip(height - 0.8, 0, None).mean()
    assert estimate(partial_auc, s, y) == pytest.approx(expected, abs=2e-5)


def test_partial_area_of_chance_and_of_perfection():
    y = np.repeat([0.0, 1.0], 500)
    assert estimate(partial_auc, y + np.linspace(0, 0.5, 1000), y) == pytest.approx(0.2)
    assert estimate(partial_auc, np.tile(np.arange(500.0), 2), y) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="labels are not scores"):
        partial_auc_metric(y, y, np.arange(1000))


@given(cases, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_specificity_at_a_recall_is_the_best_of_all_thresholds_that_reach_it(rows, recall):
    s, y = arrays(rows)
    reached = [t for t in np.unique(s) if (s[y == 1] >= t).mean() >= recall - 1e-12]
    expected = max((s[y == 0] < t).mean() for t in reached)
    assert estimate(specificity_at_recall(recall), s, y) == pytest.approx(expected)


@given(cases, st.integers(0, 2**16))
def test_a_weight_of_two_is_the_case_twice(rows, seed):
    """The bootstrap stands on it: weights are counts."""
    s, y = arrays(rows)
    counts = np.random.default_rng(seed).integers(0, 4, len(s))
    again = np.repeat(s, counts), np.repeat(y, counts)
    for statistic in (partial_auc, specificity_at_recall(0.9), lambda p, y, w: net_benefit(p, y, w, 0.2)):
        weighted = statistic(s, y, counts[None].astype(float))[0]
        repeated = statistic(*again, np.ones((1, counts.sum())))[0] if counts.sum() else np.nan
        assert weighted == pytest.approx(repeated, nan_ok=True)


@given(cases, st.sampled_from([0.05, 0.2, 0.5, 0.9]))
def test_net_benefit_is_its_definition(rows, threshold):
    p, y = arrays(rows)
    (_, false), (_, hits) = confusion_matrix(y, p >= threshold, labels=[0, 1])
    expected = hits / len(y) - false / len(y) * threshold / (1 - threshold)
    assert net_benefit(p, y, np.ones((1, len(y))), threshold)[0] == pytest.approx(expected)


def test_biopsying_everybody_is_worth_the_prevalence_less_the_harm():
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.2).astype(float)
    p = np.clip(0.2 + 0.5 * (y - 0.2) + rng.normal(0, 0.1, 400), 0.02, 1)
    rows = decision_curve(p, y, np.arange(400), [0.01, 0.2, 0.5])
    for row in rows:
        t = row["threshold"]
        assert row["biopsy_all"] == pytest.approx(y.mean() - (1 - y.mean()) * t / (1 - t))
        assert row["low"] <= row["model"] <= row["high"]
        assert row["biopsy_none"] == 0
    assert rows[0]["model"] == pytest.approx(rows[0]["biopsy_all"], abs=1e-3)  # at a risk of 1 % all are flagged


def test_precision_at_the_set_s_own_prevalence_is_the_plain_one():
    rng = np.random.default_rng(1)
    y = np.r_[(rng.random(300) < 0.3).astype(float), np.nan]
    flagged = np.r_[rng.random(300) < 0.2 + 0.5 * y[:300], True]
    own = precision_metric(flagged, y, np.arange(301))
    assert own.value == pytest.approx(precision_score(y[:300], flagged[:300]))
    rare = precision_metric(flagged, y, np.arange(301), 0.01)
    recall, spared = flagged[y == 1].mean(), (~flagged[y == 0]).mean()
    assert rare.value == pytest.approx(precision_at(recall, spared, 0.01))
    assert rare.low < rare.value < rare.high < own.low
    assert precision_metric(np.zeros(301, bool), y, np.arange(301)).note == "nobody is flagged"
