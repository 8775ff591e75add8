"""Geometry against numbers that can be reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.images.geometry import area, flip, outline, overlap, project, resized, share_inside, similarity
from derm_ml.images.preprocess import limit_side
from derm_ml.records import Region

NUMBERS = st.floats(-50, 50, allow_nan=False)


@given(angle=st.floats(-3, 3), scale=st.floats(0.2, 5), x=NUMBERS, y=NUMBERS)
def test_a_similarity_is_found_again(angle, scale, x, y):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    wanted = np.array([[c, -s, x], [s, c, y], [0, 0, 1]])
    points = np.array([[0, 0], [10, 2], [3, 7.0]])
    assert np.allclose(similarity(points, project(wanted, points)), wanted, atol=1e-6)


def test_a_similarity_never_mirrors():
    """A face is nearly symmetric: a reflection would put every lesion on the other cheek."""
    points = np.array([[0, 0], [10, 0], [5, 8.0]])
    assert np.linalg.det(similarity(points, points * (-1, 1))[:2, :2]) > 0


@given(width=st.integers(40, 400), height=st.integers(40, 400), longest=st.integers(30, 300), x=NUMBERS, y=NUMBERS)
@settings(deadline=None, max_examples=50)
def test_a_resize_and_back_leaves_a_point_where_it_was(width, height, longest, x, y):
    shape = (height, width)
    small = limit_side(np.zeros((*shape, 3), np.uint8), longest).shape
    there = project(resized(shape, small), np.array([[x, y]]))
    assert np.allclose(project(resized(small, shape), there), [[x, y]], atol=1e-9)
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])  # edges stay edges
    assert np.allclose(project(resized(shape, small), corners), [[-0.5, -0.5], [small[1] - 0.5, small[0] - 0.5]])


@given(x=st.integers(20, 180), y=st.integers(20, 100))
@settings(deadline=None)
def test_a_dot_is_where_a_resize_puts_it(x, y):
    """Against OpenCV itself: half a pixel here is half a pixel in every lesion's place."""
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[y, x] = 255
    small = limit_side(picture, 50)
    rows, columns = np.mgrid[: small.shape[0], : small.shape[1]]
    weight = small[..., 0].astype(float)
    middle = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
    assert np.abs(project(resized(picture.shape, small.shape), np.array([[x, y]])) - middle).max() < 0.51


def test_one_point_fixes_no_similarity():
    with pytest.raises(ValueError, match="one point"):
        similarity(np.ones((3, 2)), np.ones((3, 2)))


def test_overlap_of_squares():
    a, b = (outline(Region("", x, 0, x + 2, 2)) for x in (0, 1))
    assert area(a) == pytest.approx(4)
    assert overlap(a, b) == pytest.approx(2 / 6, abs=1e-5)
    assert overlap(a, a[::-1]) == pytest.approx(1, abs=1e-5)
    assert overlap(a, a + 5) == 0


def test_share_inside_a_picture():
    assert share_inside(outline(Region("", -1, 2, 1, 4)), 10, 10) == pytest.approx(0.5, abs=1e-5)
    assert share_inside(outline(Region("", 20, 2, 21, 4)), 10, 10) == 0


def test_mirroring_twice_changes_nothing():
    assert np.allclose(flip(7) @ flip(7), np.eye(3))
