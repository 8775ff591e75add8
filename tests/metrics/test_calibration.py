"""Calibration: a clinician reads 0.8 as eight of ten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from derm_ml.metrics.calibration import (
    COLDEST,
    HOTTEST,
    MOST_BIAS,
    brier,
    confidence,
    ece,
    ece_by_chance,
    fit_fellow_shares,
    fit_temperature,
    fit_temperature_and_bias,
    mean_ece,
    reliability_table,
)
from derm_ml.metrics.intervals import estimate, measured


def drawn(n: int, heat: float, seed: int = 0, head: str = "softmax"):
    """Logits whose probabilities are true when divided by `heat`, and targets drawn from those probabilities."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, 3)) * 2
    if head == "sigmoid":
        return honest * heat, (rng.random((n, 3)) < expit(honest)).astype(float)
    picks = (softmax(honest, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return honest * heat, np.eye(3)[np.minimum(picks, 2)]


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_temperature_finds_how_much_a_network_exaggerates(head, heat):
    logits, targets = drawn(6000, heat, head=head)
    assert fit_temperature(logits, targets, head) == pytest.approx(heat, rel=0.06)


def test_temperature_leaves_out_unknown_targets():
    logits, targets = drawn(3000, 2.0, head="sigmoid")
    hidden = targets.copy()
    hidden[1000:, 1] = np.nan
    hidden[:1000, 2] = np.nan
    assert fit_temperature(logits, hidden, "sigmoid") == pytest.approx(2.0, rel=0.1)
    logits, targets = drawn(3000, 2.0)
    targets[::3, 0] = np.nan
    assert fit_temperature(logits, targets, "softmax") == pytest.approx(
        fit_temperature(logits[~np.isnan(targets[:, 0])], targets[~np.isnan(targets[:, 0])], "softmax"), rel=1e-4
    )


@settings(max_examples=20)
@given(st.integers(0, 100), st.sampled_from(["softmax", "sigmoid"]))
def test_temperature_stays_in_its_range(seed, head):
    logits, targets = drawn(5, 1.0, seed, head)
    assert COLDEST <= fit_temperature(logits, targets, head) <= HOTTEST + 1e-9


def test_a_faultless_small_validation_set_does_not_make_the_model_infinitely_sure():
    assert fit_temperature(3 * np.eye(3), np.eye(3), "softmax") == pytest.approx(COLDEST, rel=0.01)


def test_nothing_to_calibrate_on_is_an_error_not_a_guess():
    with pytest.raises(ValueError, match="no case"):
        fit_temperature(np.zeros((4, 2)), np.full((4, 2), np.nan), "sigmoid")
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(np.full((4, 2), np.nan), np.eye(2)[[0, 1, 0, 1]], "softmax")


def test_ece_of_honest_probabilities_is_near_zero_and_of_a_boast_is_the_boast():
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(float)
    assert estimate(ece, p, y) < 0.015
    assert estimate(ece, np.full(1000, 0.9), np.r_[np.ones(600), np.zeros(400)]) == pytest.approx(0.3)


def test_interval_of_a_small_ece_holds_it_although_resamples_are_biased_upwards():
    p = np.repeat(np.arange(1, 10) / 10, 10)
    y = np.concatenate([np.r_[np.ones(k), np.zeros(10 - k)] for k in range(1, 10)])
    metric = measured(ece, np.arange(90), p, y, why="")
    assert metric.value == pytest.approx(0, abs=1e-12)
    assert metric.low <= metric.value < metric.high


def test_by_chance_is_what_calibrated_probabilities_measure():
    """At n = 150 a perfectly calibrated model shows an ECE of 0.08: read bare, it looks like a fault of the model."""
    rng = np.random.default_rng(5)
    measured_here, by_chance, alarms = [], [], 0
    for _ in range(100):
        p = rng.random(150)
        y = (rng.random(150) < p).astype(float)
        drawn_here = ece_by_chance(p, y, np.arange(150), draws=200)
        measured_here.append(estimate(ece, p, y))
        by_chance.append(drawn_here.mean())
        alarms += measured_here[-1] > np.percentile(drawn_here, 97.5)
    assert np.mean(measured_here) == pytest.approx(0.081, abs=0.004)
    assert np.mean(by_chance) == pytest.approx(np.mean(measured_here), abs=0.003)
    assert alarms <= 8  # 2.5 are expected


def test_by_chance_grows_with_what_images_of_a_patient_have_in_common():
    rng = np.random.default_rng(6)
    p = np.repeat(rng.random(40), 10)
    y = np.repeat(rng.random(40) < p[::10], 10).astype(float)  # all ten images of a patient share their label
    alone, together = (ece_by_chance(p, y, groups).mean() for groups in (np.arange(400), np.repeat(np.arange(40), 10)))
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.25)


def test_by_chance_leaves_out_unknown_targets_and_needs_a_known_one():
    rng = np.random.default_rng(7)
    p = rng.random((200, 2))
    y = (rng.random((200, 2)) < p).astype(float)
    y[:100, 1] = np.nan
    each = [ece_by_chance(p[keep, k], y[keep, k], np.arange(keep.sum())).mean()
            for k, keep in ((0, np.ones(200, bool)), (1, ~np.isnan(y[:, 1])))]  # fmt: skip
    assert ece_by_chance(p, y, np.arange(200)).mean() == pytest.approx(np.mean(each), rel=0.05)
    assert len(ece_by_chance(p, np.full((200, 2), np.nan), np.arange(200))) == 0


def test_ece_of_two_bins_worked_out_by_hand():
    p, y = np.array([0.1, 0.1, 0.8, 0.8]), np.array([0.0, 1.0, 1.0, 1.0])
    assert estimate(ece, p, y) == pytest.approx(0.5 * abs(0.1 - 0.5) + 0.5 * abs(0.8 - 1.0))
    both = np.stack([p, p], axis=1), np.stack([y, np.array([0.0, 1.0, np.nan, np.nan])], axis=1)
    assert estimate(mean_ece, *both) == pytest.approx((0.3 + 0.4) / 2)


def test_brier_equals_scikit_learn_and_averages_over_labels():
    rng = np.random.default_rng(2)
    p, y = rng.random(50), (rng.random(50) < 0.5).astype(float)
    assert estimate(brier, p, y) == pytest.approx(brier_score_loss(y, p))
    q = softmax(rng.normal(size=(50, 3)), axis=1)
    t = np.eye(3)[rng.integers(0, 3, 50)]
    assert estimate(brier, q, t) == pytest.approx(((q - t) ** 2).sum(axis=1).mean() / 3)


def test_reliability_table_counts_every_known_case_once():
    rng = np.random.default_rng(3)
    p, y = np.round(rng.random(97), 1), (rng.random(97) < 0.5).astype(float)
    y[:7] = np.nan
    table = reliability_table(p, y)
    assert sum(row["n"] for row in table) == 90
    assert sum(row["n"] * row["observed_share"] for row in table) == pytest.approx(np.nansum(y))
    assert reliability_table(p[:7], y[:7]) == []


def test_confidence_is_of_the_likeliest_label():
    sure, right = confidence(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([[0, 1.0], [0, 1.0]]))
    assert sure.tolist() == [0.8, 0.6]
    assert right.tolist() == [1, 0]


def test_temperature_and_bias_are_those_of_logistic_regression():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (4000, 1))
    y = (rng.random((4000, 1)) < expit(0.5 * logits - 1.2)).astype(float)  # too sure, and of too many
    temperature, (bias,) = fit_temperature_and_bias(logits, y)
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(logits, y[:, 0])
    assert 1 / temperature == pytest.approx(fitted.coef_[0, 0], rel=0.02)  # but for Platt's softer targets
    assert bias == pytest.approx(fitted.intercept_[0], abs=0.02)


def test_temperature_and_bias_of_a_softmax_find_how_frequent_labels_are_elsewhere():
    """A network of a place where labels are even, at one where they are not: its logits lack the logarithm of the
    ratio, and it exaggerates twofold."""
    rng = np.random.default_rng(4)
    there = np.log([0.7, 0.2, 0.1])
    true = rng.normal(0, 1.5, (20_000, 3))
    shares = softmax(true + there, axis=1)
    targets = np.eye(3)[(shares.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)]
    temperature, bias = fit_temperature_and_bias(2 * true, targets, "softmax")
    assert temperature == pytest.approx(2, rel=0.05)
    np.testing.assert_allclose(bias, there - there.mean(), atol=0.06)
    np.testing.assert_allclose(
        softmax(2 * true / temperature + bias, axis=1).mean(axis=0), targets.mean(axis=0), atol=1e-3
    )


def test_a_validation_set_told_apart_without_an_error_gives_no_certainty():
    """30 of 30 found is no proof of 100 %: the next case may be the miss."""
    logits = np.r_[np.linspace(2, 6, 30), np.linspace(-6, -2, 30)][:, None]
    temperature, (bias,) = fit_temperature_and_bias(logits, (logits > 0).astype(float))
    assert expit(logits[0, 0] / temperature + bias) < 0.99


def test_unknown_targets_take_no_part_and_a_label_nobody_has_gets_a_bounded_bias():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (600, 3))
    y = (rng.random((600, 3)) < expit(logits)).astype(float)
    y[:, 1] = np.nan
    y[:, 2] = 0
    temperature, bias = fit_temperature_and_bias(logits, y)
    assert temperature == pytest.approx(1, abs=0.35)
    assert bias[1] == 0
    assert -MOST_BIAS <= bias[2] < -2


def test_the_share_of_the_other_eye_is_that_of_the_logistic_regression():
    """Of three findings one is told by both eyes, one by the eye itself alone, and of one too few are known."""
    rng = np.random.default_rng(0)
    n = 4000
    logits = rng.normal(0, 1, (n, 3))
    fellows = np.arange(n) ^ 1
    fellows[:100] = -1
    signal = 1.5 * logits + np.array([0.5, 0.0, 0.5]) * logits[np.arange(n) ^ 1]
    targets = (rng.random((n, 3)) < 1 / (1 + np.exp(-signal))).astype(float)
    targets[: n - 12, 2] = np.nan
    shares = fit_fellow_shares(logits, fellows, targets)
    theirs = LogisticRegression(C=1e6).fit(np.c_[logits[100:, 0], logits[fellows[100:], 0]], targets[100:, 0]).coef_[0]
    assert shares[0] == pytest.approx(theirs[1] / theirs.sum(), abs=1e-3)
    assert shares[0] == pytest.approx(0.25, abs=0.04)
    assert shares[1] < 0.04
    assert shares[2] == 0
