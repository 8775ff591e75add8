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
    cells_within,
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


def test_only_the_field_of_view_is_covered():
    """A bright patch on the black frame of a photograph is nothing the network has ever seen."""
    y, x = np.indices((60, 60))
    within = np.hypot(x - 29.5, y - 29.5) < 29
    square = np.where(within[..., None], np.uint8(120), np.uint8(0)).repeat(3, axis=2)
    square[25:35, 25:35] = 240
    cells = cells_within(within, (6, 6))
    assert not {0, 5, 30, 35} & set(cells), "the corners lie outside"
    assert {2, 3, 12, 14, 15, 20, 21, 23, 32, 33} <= set(cells)
    heat = np.random.default_rng(0).random((6, 6))
    series = orders(heat, np.random.default_rng(1), cells)
    assert [sorted(order) for order in series] == [sorted(cells)] * 3
    assert heat.ravel()[series[HOTTEST]].tolist() == sorted(heat.ravel()[cells], reverse=True)
    covered = covered_squares(square, (6, 6), series[HOTTEST], within)
    assert (covered[:, ~within] == 0).all()
    assert (all_covered(square, within)[~within] == 0).all()
    assert (all_covered(square, within)[within] == 120).all(), "in the colour of its own border"


def test_a_field_of_view_of_hardly_a_cell_covers_the_whole_square():
    within = np.zeros((60, 60), bool)
    within[:10, :10] = True
    assert cells_within(within, (6, 6)).tolist() == list(range(36))
