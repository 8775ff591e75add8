"""Views are averaged over: one that were not undone exactly would smear every heatmap and mask."""

from __future__ import annotations

import numpy as np
import pytest

from derm_ml.bundles.views import VIEWS, mean_map


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_undone_exactly(name):
    x = np.random.default_rng(0).integers(0, 255, (2, 5, 5, 3))
    for do, undo in VIEWS[name]:
        assert np.array_equal(undo(do(x)), x)


def test_d4_is_the_eight_symmetries_of_the_square():
    x = np.arange(9).reshape(1, 3, 3, 1)
    assert len({do(x).tobytes() for do, _ in VIEWS["d4"]}) == 8


def test_maps_of_turned_squares_come_back_to_where_they_were():
    maps = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    seen = [do(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for do, _ in VIEWS["d4"]]
    np.testing.assert_allclose(mean_map(seen, "d4"), maps, atol=1e-6)
