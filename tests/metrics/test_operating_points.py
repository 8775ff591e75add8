"""Operating points: a threshold chosen on the cases it is judged by is the original's worst mistake."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.bundles.bundle import BundleCard
from derm_ml.images.settings import Preprocessing
from derm_ml.metrics.intervals import clopper_pearson, clopper_pearson_low
from derm_ml.metrics.operating_points import (
    fit_balanced_point,
    fit_operating_point,
    fit_recall_points,
    fit_specificity_point,
    measure_point,
    recall_bound,
    refuse_fitted_on,
)
from derm_ml.metrics.points import UnclaimedPoint

cases = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({y for _, y in rows}) == 2
)


def arrays(rows):
    return np.array([s / 40 for s, _ in rows], np.float32), np.array([y for _, y in rows], float)


@given(cases, st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_recall_is_reached_and_no_higher_threshold_reaches_it(rows, recall):
    p, y = arrays(rows)
    point = fit_operating_point("r", "melanoma", p, y, "validation", "hash", recall)
    assert point.sensitivity >= recall - 1e-12
    assert point.sensitivity == pytest.approx((p[y == 1] >= point.threshold).mean())
    assert point.specificity == pytest.approx((p[y == 0] < point.threshold).mean())
    for flagged in p[p >= point.threshold]:  # a threshold just above any flagged case misses too many
        assert (p[y == 1] > flagged).mean() < recall


def test_floating_point_does_not_ask_for_one_more_positive():
    """0.95 of 20 positives are 19, not 20: asking for 20 would throw specificity away."""
    p = np.linspace(0.05, 1, 40)
    y = np.tile([0.0, 1.0], 20)
    assert fit_operating_point("r", "m", p, y, "validation", "h", 0.95).sensitivity == pytest.approx(0.95)


def test_threshold_is_not_at_a_case_so_a_last_digit_cannot_turn_it():
    p, y = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0, 0, 1, 1.0])
    point = fit_operating_point("r", "m", p, y, "validation", "h", 1.0)
    assert point.threshold == pytest.approx(0.5)
    assert point.sensitivity_low == pytest.approx(clopper_pearson_low(2, 2))


@pytest.mark.parametrize("split", ["test", "train", ""])
def test_only_validation_may_choose_a_threshold(split):
    with pytest.raises(ValueError, match="fitted on the validation split"):
        fit_operating_point("r", "m", np.array([0.1, 0.9]), np.array([0, 1.0]), split, "h", 0.9)
    with pytest.raises(ValueError, match="fitted on the validation split"):
        fit_balanced_point("b", "m", np.array([0.1, 0.9]), np.array([0, 1.0]), split, "h")


def test_a_point_fitted_on_a_test_split_s_hash_is_refused_there():
    point = fit_operating_point("r", "m", np.array([0.1, 0.9]), np.array([0, 1.0]), "validation", "abc", 0.9)
    with pytest.raises(ValueError, match="was fitted on the test split"):
        refuse_fitted_on(point, "test", "abc")
    refuse_fitted_on(point, "test", "another")
    refuse_fitted_on(point, "validation", "abc")


def test_unusable_requests_say_what_is_missing():
    with pytest.raises(ValueError, match="melanoma: an operating point needs positives"):
        fit_operating_point("r", "melanoma", np.array([0.1, 0.9]), np.zeros(2), "validation", "h", 0.9)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        fit_operating_point("r", "m", np.array([0.1, 0.9]), np.array([0, 1.0]), "validation", "h", 1.2)


@given(cases)
def test_balanced_point_is_the_best_sum_of_sensitivity_and_specificity(rows):
    p, y = arrays(rows)
    point = fit_balanced_point("balanced", "m", p, y, "validation", "h")
    sums = [(p[y == 1] >= t).mean() + (p[y == 0] < t).mean() for t in np.unique(p)]
    assert point.sensitivity + point.specificity == pytest.approx(max(sums))


def test_measured_point_has_at_least_the_exact_interval_and_leaves_unknown_targets_out():
    p = np.r_[np.full(10, 0.9), np.full(10, 0.1), 0.9]
    y = np.r_[np.ones(10), np.zeros(10), np.nan]
    point = fit_operating_point("r", "m", p[:20], y[:20], "validation", "h", 0.9)
    found = measure_point(point, p, y, np.arange(21))
    assert found.sensitivity.value == 1
    assert found.sensitivity.n == 10
    assert found.sensitivity.low == pytest.approx(clopper_pearson(10, 10)[0])  # the bootstrap alone would say 1 to 1
    assert (found.flagged, found.precision) == (10, 1.0)
    none = measure_point(point, p[10:], y[10:], np.arange(11))
    assert none.sensitivity.value is None
    assert none.sensitivity.note == "no positives"


def test_many_images_of_few_patients_widen_the_interval_beyond_the_exact_one():
    p = np.r_[np.full(20, 0.9), np.full(20, 0.1), np.full(20, 0.1)]
    y = np.r_[np.ones(40), np.zeros(20)]
    point = fit_operating_point("r", "m", np.array([0.1, 0.9]), np.array([0, 1.0]), "validation", "h", 1.0)
    patients = np.r_[np.repeat([0, 1, 2, 3], 10), np.arange(20) + 10]
    found = measure_point(point, p, y, patients)
    low, high = clopper_pearson(20, 40)
    assert found.sensitivity.low < low
    assert found.sensitivity.high > high


def test_too_few_positives_make_no_number_that_means_nothing():
    """One of 213 missed says nothing of a recall of 99.9 %: the point says what it would need."""
    rng = np.random.default_rng(0)
    y = np.r_[np.ones(213), np.zeros(400)]
    p = np.clip(0.3 + 0.4 * y + rng.normal(0, 0.1, 613), 0, 1)
    points, unclaimed = fit_recall_points("malignant", p, y, "validation", "h", (0.9, 0.95, 0.99, 0.999))
    assert [point.name for point in points] == ["recall_0.9", "recall_0.95"]
    assert [point.reason for point in unclaimed] == [
        "299 positive validation cases are needed, 213 are available",
        "2,995 positive validation cases are needed, 213 are available",
    ]
    assert points[1].sensitivity >= 0.95
    assert points[1].sensitivity_low == pytest.approx(clopper_pearson_low(round(points[1].sensitivity * 213), 213))
    with pytest.raises(ValueError, match="fitted on the validation split or on local cases, not on 'test'"):
        fit_recall_points("malignant", p, y, "test", "h", (0.9,))


def test_ten_images_of_a_lesion_prove_no_more_of_a_recall_than_one():
    """300 images of 30 lesions are 30 cases: they cannot prove 99 %, and one missed image is a missed lesion."""
    rng = np.random.default_rng(0)
    y = np.r_[np.ones(300), np.zeros(300)]
    p = np.clip(0.3 + 0.4 * y + rng.normal(0, 0.05, 600), 0, 1)
    p[[0, 1, 2]] = 0.1  # three of 300, all of one lesion
    lesions = np.r_[np.arange(300) // 10, np.arange(300) + 1000]
    points, unclaimed = fit_recall_points("malignant", p, y, "validation", "h", (0.9, 0.95), groups=lesions)
    assert [point.name for point in points] == ["recall_0.9"]
    assert (points[0].positives, points[0].groups) == (300, 30)
    assert unclaimed[0].reason == "59 different positive patients or lesions are needed, validation has 30 (300 images)"
    found = p[y == 1] > 0.2
    assert recall_bound(found, lesions[:300]) == (pytest.approx(clopper_pearson_low(29, 30)), 30)
    assert recall_bound(found, np.arange(300)) == (pytest.approx(clopper_pearson_low(297, 300)), 300)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60))
def test_the_bound_never_exceeds_that_of_independent_images(rows):
    groups, flagged = np.array([g for g, _ in rows]), np.array([f for _, f in rows])
    low, n = recall_bound(flagged, groups)
    assert low <= clopper_pearson_low(int(flagged.sum()), len(rows)) + 1e-12
    assert n == len(set(groups))


def test_a_bundle_with_a_point_of_its_test_split_is_no_bundle():
    """Whatever wrote it, a threshold chosen on the test split must not be served."""
    point = fit_operating_point("recall_0.9", "m", np.array([0.1, 0.9]), np.array([0, 1.0]), "validation", "abc", 0.9)
    fields = {
        "task": "t", "recipe_name": "r", "recipe": {}, "labels": ("m",), "head": "sigmoid", "dataset_md5": "d",
        "preprocessing": Preprocessing(side=8, store_side=8), "operating_points": (point,), "backbone": "b",
        "pretrained": "none", "epochs": 1,
    }  # fmt: skip
    assert BundleCard(**fields, split_hashes={"test": "other"}).threshold("m", "recall_0.9") == point.threshold
    with pytest.raises(ValueError, match="fitted on the test split"):
        BundleCard(**fields, split_hashes={"test": "abc"})


@given(cases, st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_specificity_is_reached_and_no_lower_threshold_reaches_it(rows, wanted):
    p, y = arrays(rows)
    point = fit_specificity_point("s", "glaucoma", p, y, "validation", "hash", wanted)
    if isinstance(point, UnclaimedPoint):  # a threshold is at most 1, and 1 is not below it
        assert (p[y == 0] < 1).mean() < wanted
        return
    assert point.specificity >= wanted - 1e-12
    for passed in p[p < point.threshold]:  # a threshold at any case that is passed over flags too many
        assert (p[y == 0] < passed).mean() < wanted or passed > p[y == 0].max()


def test_a_specificity_that_no_threshold_reaches_has_no_point_but_a_reason():
    """Two of ten negatives at exactly 1: a point called specificity_0.95 would have spared 0.80 of them."""
    p, y = np.r_[np.linspace(0, 0.7, 8), 1.0, 1.0, 0.9, 1.0], np.r_[np.zeros(10), 1, 1]
    point = fit_specificity_point("specificity_0.95", "glaucoma", p, y, "validation", "hash", 0.95)
    assert isinstance(point, UnclaimedPoint)
    assert point.reason == "no threshold spares more than 0.800 of the negatives in validation"
    assert fit_specificity_point("specificity_0.8", "glaucoma", p, y, "validation", "hash", 0.8).specificity == 0.8


def test_between_neighbouring_probabilities_the_threshold_spares_the_lower_one():
    """Halfway between two neighbouring floating-point numbers lies one of them, and it may be the lower."""
    for lower in (0.5, np.nextafter(0.5, 1)):  # one of the two is rounded down
        p, y = np.array([0.1, 0.2, lower, np.nextafter(lower, 1)]), np.array([0.0, 0, 0, 1])
        point = fit_specificity_point("s", "glaucoma", p, y, "validation", "hash", 1.0)
        assert (point.specificity, point.sensitivity) == (1.0, 1.0)
