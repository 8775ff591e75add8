"""Intervals: one that is too narrow lets a model pass on luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from derm_ml.metrics.classification import auc, mean_auc, roc_auc
from derm_ml.metrics.intervals import (
    _freedom,
    bootstrap,
    clopper_pearson,
    clopper_pearson_low,
    delong_difference,
    draws,
    estimate,
    measured,
    paired_difference,
    weighted_mean,
)


def test_one_miss_among_1000_positives_is_99_44_per_cent_at_worst():
    """The published recall of 99.9 %: what its 1000 positives really prove."""
    low, high = clopper_pearson(999, 1000)
    assert round(low, 4) == 0.9944
    assert round(high, 5) == 0.99997


def test_recall_of_99_9_with_95_per_cent_confidence_needs_about_3000_positives_without_a_miss():
    needed = next(n for n in range(2900, 3100) if clopper_pearson_low(n, n) >= 0.999)
    assert needed == 2995


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (1, 20, 0.0013, 0.2487), (49, 50, 0.8935, 0.9995)],
)
def test_exact_intervals_are_those_of_published_tables(successes, trials, low, high):
    """Documenta Geigy, Scientific Tables, binomial 95 % limits."""
    assert clopper_pearson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 400), st.integers(1, 400))
def test_exact_interval_equals_scipy(successes, trials):
    successes = min(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_proportion_that_is_none_is_refused():
    with pytest.raises(ValueError, match="5 successes of 3 trials"):
        clopper_pearson(5, 3)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_every_draw_takes_whole_patients_and_as_many_as_there_are():
    """Images of one patient drawn one by one would make every interval too narrow."""
    patients = np.array(["a", "b", "b", "c", "c", "c"])
    weights = np.concatenate(list(draws(patients, 50, seed=3)))
    assert weights.shape == (50, 6)
    for name in "abc":
        assert (np.ptp(weights[:, patients == name], axis=1) == 0).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_interval_of_a_mean_is_that_of_normal_theory():
    values = np.random.default_rng(4).normal(size=400)
    low, high = bootstrap(weighted_mean, np.arange(400), values, limits=None)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.25 * half)


def test_copies_of_a_patient_s_images_do_not_narrow_the_interval():
    values = np.random.default_rng(5).normal(size=60)
    alone = bootstrap(weighted_mean, np.arange(60), values, limits=None)
    copied = bootstrap(weighted_mean, np.repeat(np.arange(60), 5), np.repeat(values, 5), limits=None)
    assert copied == pytest.approx(alone)


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_interval_holds_the_value_and_is_the_same_every_time(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[np.ones(15), np.zeros(25)]
    s = rng.normal(size=40) + y
    low, high = bootstrap(auc, np.arange(40), s, y, n=200)
    assert low <= estimate(auc, s, y) <= high
    assert (low, high) == bootstrap(auc, np.arange(40), s, y, n=200)


def test_blocks_of_many_cases_give_as_many_resamples():
    """Memory is bounded by blocks; none may be lost."""
    patients = np.arange(30_000) // 100
    blocks = list(draws(patients, 150, seed=0))
    assert len(blocks) > 1
    assert sum(len(block) for block in blocks) == 150


def test_one_patient_has_no_interval_but_a_value():
    metric = measured(weighted_mean, ["a", "a", "a"], np.array([0.0, 1.0, 1.0]), why="")
    assert metric.value == pytest.approx(2 / 3)
    assert metric.low is None
    assert "patients" in metric.note


def test_a_perfect_ranking_of_few_patients_proves_what_as_many_right_pairs_prove():
    """Every resample of it says 1; an interval of 1 to 1 would let a gate of 0.9 pass on four positives."""
    y = np.r_[np.zeros(30), np.ones(4)]
    metric = roc_auc(np.arange(34.0), y, np.arange(34))
    assert (metric.value, metric.high) == (1, 1)
    assert metric.low == pytest.approx(clopper_pearson(4, 4)[0])
    assert "rests on 4 patients" in metric.note
    images = roc_auc(np.arange(68.0), np.repeat(y, 2), np.repeat(np.arange(34), 2))
    assert images.low == metric.low  # more images of the same patients prove nothing more


def test_values_that_are_all_the_same_say_that_their_interval_says_little():
    metric = measured(weighted_mean, np.arange(20), np.full(20, 0.5), why="")
    assert (metric.value, metric.low, metric.high) == (0.5, 0.5, 0.5)
    assert "not informative" in metric.note


def test_a_statistic_beyond_its_limits_is_an_error_not_a_number():
    """A signal-to-noise ratio of 30 dB has no logit."""
    with pytest.raises(ValueError, match=r"a value of 30\.0 lies outside its limits 0 to 1"):
        bootstrap(weighted_mean, np.arange(20), np.full(20, 30.0))


@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.0, 0.2), None])
def test_an_interval_stays_within_the_limits_of_its_statistic(limits):
    values = np.r_[np.full(9, 0.19), 0.0]
    low, high = bootstrap(weighted_mean, np.arange(10), values, limits=limits)
    assert low < values.mean() < high
    assert (high <= 0.2) is (limits == (0.0, 0.2))


def test_the_interval_knows_how_few_patients_carry_a_value():
    """190 negatives beside 10 positives: a quantile of 199 degrees of freedom covers too seldom."""
    rng = np.random.default_rng(9)
    even, rare = np.repeat([0.0, 1.0], 100), np.r_[np.zeros(190), np.ones(10)]
    for y, freedom in ((even, 60), (rare, 25)):
        found = _freedom(auc, np.arange(200), (rng.normal(size=200) + y, y))
        assert (found > freedom) is (y is even)


def test_paired_difference_sees_what_separate_intervals_do_not():
    """A challenger that is better on the same patients is recognised although both intervals overlap."""
    rng = np.random.default_rng(6)
    y = np.repeat([0.0, 1.0], 300)
    signal = rng.normal(size=600) + 1.2 * y
    champion, challenger = signal + rng.normal(size=600), signal
    patients = np.arange(600)
    assert bootstrap(auc, patients, champion, y)[1] > bootstrap(auc, patients, challenger, y)[0]
    difference = paired_difference(auc, patients, challenger, champion, y)
    assert difference.low > 0
    assert difference.p < 0.025
    mirrored = paired_difference(auc, patients, champion, challenger, y)
    assert mirrored.value == pytest.approx(-difference.value)
    assert mirrored.p > 0.97


def test_a_model_against_itself_is_a_tie():
    rng = np.random.default_rng(7)
    y, s = (rng.random((80, 2)) < 0.4).astype(float), rng.normal(size=(80, 2))
    difference = paired_difference(mean_auc, np.arange(80), s, s, y)
    assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_models_scored_on_other_cases_cannot_be_compared():
    with pytest.raises(ValueError, match="same cases"):
        paired_difference(auc, np.arange(4), np.arange(4.0), np.arange(5.0), np.array([0, 1, 0, 1.0]))
    with pytest.raises(ValueError, match="undefined"):
        paired_difference(auc, np.arange(4), np.arange(4.0), np.arange(4.0), np.zeros(4))


def delong_by_hand(a, b, y):
    """Structural components from every pair, as the paper defines them: slow, and written independently."""
    kernel = [
        np.array([[1.0 if p > q else 0.5 if p == q else 0.0 for q in s[y == 0]] for p in s[y == 1]]) for s in (a, b)
    ]
    v10, v01 = np.array([k.mean(axis=1) for k in kernel]), np.array([k.mean(axis=0) for k in kernel])
    m, n = v10.shape[1], v01.shape[1]
    s10 = (v10 - v10.mean(axis=1, keepdims=True)) @ (v10 - v10.mean(axis=1, keepdims=True)).T / (m - 1)
    s01 = (v01 - v01.mean(axis=1, keepdims=True)) @ (v01 - v01.mean(axis=1, keepdims=True)).T / (n - 1)
    contrast = np.array([1.0, -1.0])
    return kernel[0].mean() - kernel[1].mean(), np.sqrt(contrast @ (s10 / m + s01 / n) @ contrast)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_delong_is_the_paper_s_definition_and_is_mirrored(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[np.ones(rng.integers(2, 20)), np.zeros(rng.integers(2, 20))]
    a, b = (np.round(rng.normal(size=len(y)) + y, 1) for _ in range(2))  # rounded: ties
    value, error = delong_by_hand(a, b, y)
    found, mirrored = delong_difference(a, b, y), delong_difference(b, a, y)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error, abs=1e-6)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_delong_and_the_bootstrap_agree_where_every_patient_has_one_image():
    rng = np.random.default_rng(8)
    y = np.repeat([0.0, 1.0], 300)
    signal = rng.normal(size=600) + y
    a, b = signal + 0.4 * rng.normal(size=600), signal + 0.9 * rng.normal(size=600)
    exact, drawn = delong_difference(a, b, y), paired_difference(auc, np.arange(600), a, b, y)
    assert exact.value == pytest.approx(drawn.value)
    assert (exact.low, exact.high) == pytest.approx((drawn.low, drawn.high), abs=0.006)
    assert exact.p == pytest.approx(drawn.p, abs=0.02)


def test_delong_of_the_same_ranking_is_a_tie_and_of_one_positive_is_refused():
    y, s = np.array([1.0, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1])
    same = delong_difference(s, 3 * s, y)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="two positives"):
        delong_difference(s, s, np.array([1.0, 0, 0, 0]))
