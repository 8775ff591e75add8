"""The order in which cells are covered decides what a heatmap is worth: a wrong one would praise any map."""

from __future__ import annotations

import numpy as np
import pytest

from derm_ml.explain.deletion import (
    COLDEST,
    HOTTEST,
    RANDOM,
    all_covered,
    area_under,
    covered_counts,
    covered_squares,
    orders,
)

HEAT = np.array([[0.1, 0.9, 0.0], [0.5, 0.2, 0.7]])


def test_the_hottest_cells_go_first_and_come_back_last():
    found = orders(HEAT, np.random.default_rng(0))
    assert found[HOTTEST].tolist() == [1, 5, 3, 4, 0, 2]
    assert found[COLDEST].tolist() == [2, 0, 4, 3, 5, 1]
    assert sorted(found[RANDOM]) == list(range(6))


def test_a_map_without_an_order_is_covered_as_chance_has_it():
    """Else cells at the top left would go first, and an even map would seem to know something."""
    found = orders(np.ones((4, 4)), np.random.default_rng(3))
    assert (found[HOTTEST] == found[RANDOM]).all()
    assert (found[COLDEST] == found[RANDOM]).all()


@pytest.mark.parametrize("cells", [1, 4, 16, 36, 49, 196])
def test_every_order_is_covered_in_the_same_steps_from_none_to_all(cells):
    steps = covered_counts(cells)
    assert steps[0] == 0
    assert steps[-1] == cells
    assert steps == sorted(set(steps))


def test_a_covered_cell_is_skin_and_the_others_stay():
    square = np.full((60, 60, 3), (200, 150, 120), np.uint8)
    square[20:40, 20:40] = (60, 30, 20)
    covered = covered_squares(square, (3, 3), np.array([4, 0, 1, 2, 3, 5, 6, 7, 8]))
    assert covered.shape == (4, 60, 60, 3)
    assert (covered[0][20:40, 20:40] == (200, 150, 120)).all()
    assert (covered[-1] == all_covered(square)).mean() > 0.8
    assert (square[25, 25] == (60, 30, 20)).all()  # nothing is changed in place


def test_a_map_of_one_cell_is_covered_whole_or_not_at_all():
    square = np.full((32, 32, 3), 150, np.uint8)
    assert covered_squares(square, (1, 1), np.array([0])).shape == (0, 32, 32, 3)


def test_the_area_under_a_curve_that_falls_late_is_larger():
    assert area_under(np.array([1.0, 1.0, 0.9, 0.0])) > area_under(np.array([1.0, 0.2, 0.1, 0.0]))
    assert area_under(np.ones(6)) == pytest.approx(1)
