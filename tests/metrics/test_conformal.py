"""Prediction sets: "cannot be ruled out" is a promise, kept for the rare class as for the frequent one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.metrics.conformal import coverage_by_subgroup, fit_class_limits
from derm_ml.metrics.one_answer import prediction_sets


@given(st.integers(1, 60), st.sampled_from([0.05, 0.1, 0.2, 0.5]), st.integers(0, 10_000))
def test_the_promise_is_kept_exactly(n, error, seed):
    """Any of n + 1 exchangeable cases may be the new one: of all of them as many are held as the theorem says."""
    p = np.random.default_rng(seed).permutation(np.linspace(0.01, 0.99, n + 1))
    both = np.stack([p, 1 - p], axis=1)
    held = 0
    for new in range(n + 1):
        rest = np.delete(np.arange(n + 1), new)
        limits = fit_class_limits(both[rest], np.zeros(n, int), rest, error)
        held += int(prediction_sets(both[[new]], limits)[0, 0])
    lacking = int(error * (n + 1) + 1e-9)
    assert n + 1 - held == lacking
    assert held / (n + 1) >= 1 - error


def test_each_class_keeps_it_although_one_is_rare_and_hard():
    """A limit common to all classes holds the frequent one and gives up the rare: that is whom a set is for."""
    rng = np.random.default_rng(0)

    def cases(n: int):
        truth = (rng.random(n) < 0.08).astype(int)
        right = np.where(truth == 1, rng.beta(2, 3, n), rng.beta(6, 1, n))
        p = np.stack([np.where(truth == 0, right, 1 - right), np.where(truth == 1, right, 1 - right)], axis=1)
        return p, truth

    shares = []
    for _ in range(200):
        p, truth = cases(400)
        limits = fit_class_limits(p, truth, np.arange(400), 0.1)
        new, right = cases(400)
        held = prediction_sets(new, limits)[np.arange(400), right]
        shares.append([held[right == k].mean() for k in (0, 1)])
    assert (np.mean(shares, axis=0) >= 0.89).all()
    assert (np.mean(shares, axis=0) <= 0.94).all()


def test_images_of_one_patient_are_one_case():
    """Ninety images of three patients bear no more than three cases do."""
    p = np.stack([np.linspace(0.5, 0.9, 90), np.linspace(0.5, 0.1, 90)], axis=1)
    truth = np.zeros(90, int)
    assert fit_class_limits(p, truth, np.arange(90) // 30, 0.1)[0] == 0
    assert fit_class_limits(p, truth, np.arange(90), 0.1)[0] > 0.5
    assert fit_class_limits(p, truth, np.arange(90) // 30, 0.3)[0] == 0.5  # the least probable image of each


def test_a_class_that_validation_does_not_hold_is_never_ruled_out():
    limits = fit_class_limits(np.array([[0.9, 0.1]] * 30), np.zeros(30, int), np.arange(30), 0.1)
    assert prediction_sets(np.array([[0.999, 0.001]]), limits)[0].tolist() == [True, True]
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_class_limits(np.array([[0.9, 0.1]]), np.zeros(1, int), np.arange(1), 0.0)


def test_the_table_shows_the_sub_group_in_which_it_is_not_kept():
    n = 200
    rows = pd.DataFrame({"attribute.sex": ["female"] * 40 + ["male"] * 155 + [""] * 5})
    truth, sets = np.zeros(n, int), np.ones((n, 2), bool)
    sets[:20, 0] = False  # half of the women
    table = coverage_by_subgroup(rows, sets, truth, np.arange(n), ("nevus", "melanoma"))
    found = {(row["attribute"], row["subgroup"]): row for row in table}
    assert found["all", "all"]["coverage"] == pytest.approx(0.9)
    assert found["sex", "female"]["coverage"] == pytest.approx(0.5)
    assert found["sex", "female"]["high"] < 0.7
    assert found["sex", "male"]["mean_size"] == 2
    assert found["class", "melanoma"]["remark"] == "not evaluable (n = 0)"
    assert found["sex", "unknown"]["coverage"] is None
