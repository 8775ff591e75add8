"""Ranking and decision metrics: a wrong AUC promotes the wrong model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn import metrics as reference

from derm_ml.metrics import classification as ours
from derm_ml.metrics.intervals import estimate

scores_and_targets = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=4, max_size=60).filter(
    lambda rows: len({y for _, y in rows}) == 2 and len({s for s, _ in rows}) > 2
)


def arrays(rows):
    return np.array([s for s, _ in rows], float), np.array([y for _, y in rows], float)


def groups(n):
    return [f"patient {i}" for i in range(n)]


@given(scores_and_targets)
def test_auc_equals_scikit_learn_and_mann_whitney_with_ties(rows):
    s, y = arrays(rows)
    u = mannwhitneyu(s[y == 1], s[y == 0]).statistic / ((y == 1).sum() * (y == 0).sum())
    assert estimate(ours.auc, s, y) == pytest.approx(reference.roc_auc_score(y, s), abs=1e-12)
    assert estimate(ours.auc, s, y) == pytest.approx(u, abs=1e-12)


@given(scores_and_targets)
def test_auc_does_not_change_under_a_rising_map_and_is_mirrored_by_negation(rows):
    s, y = arrays(rows)
    area = estimate(ours.auc, s, y)
    assert estimate(ours.auc, 3 * s**3 + s - 7, y) == pytest.approx(area, abs=1e-12)
    assert estimate(ours.auc, -s, y) == pytest.approx(1 - area, abs=1e-12)


@given(scores_and_targets)
def test_average_precision_and_curves_equal_scikit_learn(rows):
    s, y = arrays(rows)
    assert estimate(ours.precision_area, s, y) == pytest.approx(reference.average_precision_score(y, s), abs=1e-12)
    false_rate, true_rate, thresholds = ours.roc_curve(s, y)
    expected = reference.roc_curve(y, s, drop_intermediate=False)
    for got, wanted in zip((false_rate, true_rate, thresholds), expected, strict=True):
        assert got == pytest.approx(wanted)
    recall, precision = ours.precision_recall_curve(s, y)
    wanted_precision, wanted_recall, _ = reference.precision_recall_curve(y, s)
    assert recall == pytest.approx(wanted_recall[-2::-1])
    assert precision == pytest.approx(wanted_precision[-2::-1])


@given(scores_and_targets, st.randoms(use_true_random=False))
def test_a_weight_is_a_repetition(rows, random):
    """The bootstrap draws by weights; they must mean the same as copies of the case."""
    s, y = arrays(rows)
    copies = np.array([random.randint(1, 3) for _ in rows])
    weights = copies[None].astype(float)
    repeated = np.repeat(s, copies), np.repeat(y, copies)
    for statistic in (ours.auc, ours.precision_area):
        assert statistic(s, y, weights)[0] == pytest.approx(estimate(statistic, *repeated), abs=1e-12)
    flagged = s > 0
    for statistic in (ours.sensitivity, ours.specificity):
        assert statistic(flagged, y, weights)[0] == pytest.approx(
            estimate(statistic, np.repeat(flagged, copies), repeated[1]), abs=1e-12
        )


def test_argmax_labels_are_refused_as_scores():
    """The original of lesion_classification published an AUC of argmax labels: 0.68 that meant something else."""
    y = np.array([0, 1, 0, 1, 1, 0], float)
    for scores in (y, np.zeros(6)):
        for metric in (ours.roc_auc, ours.average_precision):
            with pytest.raises(ValueError, match="argmax labels are not scores"):
                metric(scores, y, groups(6))
    with pytest.raises(ValueError, match="argmax labels are not scores"):
        ours.mean_roc_auc(np.stack([y, np.arange(6.0)], axis=1), np.stack([y, y], axis=1), groups(6))


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [1, 1, 1, 1], [np.nan] * 4])
def test_a_missing_class_is_undefined_and_says_why_instead_of_nan(y):
    metric = ours.roc_auc(np.array([0.1, 0.2, 0.3, 0.4]), np.array(y, float), groups(4))
    assert (metric.value, metric.low, metric.high) == (None, None, None)
    assert "positives" in metric.note


def test_unknown_targets_count_neither_way():
    s, y = np.array([0.1, 0.4, 0.35, 0.8, 0.99, 0.01]), np.array([0, 0, 1, 1, np.nan, np.nan])
    metric = ours.roc_auc(s, y, groups(6))
    assert (metric.value, metric.n) == (0.75, 4)
    assert estimate(ours.precision_area, s, y) == pytest.approx(reference.average_precision_score(y[:4], s[:4]))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        ours.roc_auc(np.array([0.1, np.nan, 0.3, 0.4]), np.array([0, 1, 0, 1.0]), groups(4))


def test_class_metrics_equal_scikit_learn_even_if_a_class_does_not_occur():
    rng = np.random.default_rng(1)
    truth, guess = rng.integers(0, 3, 80), rng.integers(0, 4, 80)
    assert estimate(ours.accuracy, guess, truth) == pytest.approx(reference.accuracy_score(truth, guess))
    recalls = [(guess[truth == k] == k).mean() for k in range(3)]
    assert estimate(ours.balanced_accuracy, guess, truth) == pytest.approx(np.mean(recalls))
    assert (ours.confusion_matrix(guess, truth, 4) == reference.confusion_matrix(truth, guess)).all()


def test_permuted_labels_give_chance():
    """If shuffled truth scored above chance, so would a leak."""
    rng = np.random.default_rng(2)
    y = rng.permutation(np.repeat([0.0, 1.0], 300))
    metric = ours.roc_auc(rng.normal(size=600), y, groups(600))
    assert metric.low < 0.5 < metric.high
