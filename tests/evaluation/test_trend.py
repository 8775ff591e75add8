"""Values on two splits must never look as if they could be compared: the marks between them."""

from __future__ import annotations

import itertools
from io import BytesIO

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from derm_ml.evaluation.trend import Reached, TrendStep, runs_of_one_split, split_number
from derm_ml.figures.trend import trend_figure


def step(name: str, **hashes: str) -> TrendStep:
    return TrendStep(name, name, {split: Reached(value, 40, 0.8) for split, value in hashes.items()})


@given(st.lists(st.sampled_from(["a", "b", None])))
def test_a_line_connects_only_values_on_one_and_the_same_split(hashes):
    steps = [step(str(n), **({"test": value} if value else {})) for n, value in enumerate(hashes)]
    runs = runs_of_one_split(steps, "test")
    assert all(len({one.split_hash for _, one in run}) == 1 for run in runs)
    assert [place for run in runs for place, _ in run] == [n for n, value in enumerate(hashes) if value]
    assert all(a[-1][1].split_hash != b[0][1].split_hash for a, b in itertools.pairwise(runs))


def test_the_number_steps_where_the_split_changes_and_comes_back_with_it():
    assert [split_number(list("aabba"[:n])) for n in range(6)] == [0, 1, 1, 2, 2, 1]


def test_a_change_of_the_split_is_drawn():
    """Two lines that do not touch, and a mark between them: not one line."""
    marks = [(n, 0.6 + 0.1 * n, 0.5, 0.9, 40) for n in range(4)]
    whole = trend_figure(["a", "b", "c", "d"], {"test": [("aaaaaa", marks)]}, "Mean AUC")
    cut = trend_figure(["a", "b", "c", "d"], {"test": [("aaaaaa", marks[:2]), ("bbbbbb", marks[2:])]}, "Mean AUC")
    one, two = (np.asarray(Image.open(BytesIO(png)).convert("L"), int) for png in (whole, cut))
    assert one.shape == two.shape
    assert (np.abs(one - two) > 40).sum() > 300  # the line between b and c is gone, a mark stands there
