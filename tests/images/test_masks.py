"""What a client receives must be the mask that was drawn, in the frame of the picture that was sent."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from derm_ml.images.masks import bounding_box, cleaned, png, polygons, run_lengths
from derm_ml.images.preprocess import in_frame, to_square
from derm_ml.images.settings import MaskRule

masks = arrays(np.uint8, st.tuples(st.integers(1, 16), st.integers(1, 16)), elements=st.sampled_from([0, 255]))


def plain(threshold=0.5, **rule):
    return MaskRule(threshold=threshold, **rule)


def test_only_the_largest_part_is_kept_and_its_edge_stays_fine():
    p = np.zeros((8, 10), np.float32)
    p[1:4, 1:4], p[6, 7:9], p[5, 0] = 0.9, 0.8, 0.2
    kept = cleaned(p, plain(largest_component=True))
    assert (kept[6, 7:9] == 0).all()
    untouched = np.ones_like(p, bool)
    untouched[6, 7:9] = False
    np.testing.assert_array_equal(kept[untouched], p[untouched])


def test_a_hole_is_filled_and_a_bay_is_not():
    p = np.zeros((9, 9), np.float32)
    p[1:8, 1:8] = 0.9
    p[3, 3] = 0.1  # a hole
    p[5, 5:] = 0.1  # a bay, open to the right
    filled = cleaned(p, plain(fill_holes=True))
    assert filled[3, 3] == 1
    np.testing.assert_array_equal(filled[5, 5:], p[5, 5:])


def test_a_lesion_that_fills_the_picture_is_no_hole_of_nothing():
    assert (cleaned(np.zeros((5, 5), np.float32), plain(fill_holes=True, largest_component=True)) == 0).all()
    assert (cleaned(np.ones((5, 5), np.float32), plain(fill_holes=True, largest_component=True)) == 1).all()


@settings(max_examples=80, deadline=None)
@given(masks)
def test_every_form_gives_back_the_mask(mask):
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(png(mask), np.uint8), cv2.IMREAD_GRAYSCALE), mask)
    runs = run_lengths(mask)
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    np.testing.assert_array_equal(values.reshape(mask.shape, order="F") * 255, mask)
    drawn = np.zeros_like(mask)
    for outer, *holes in polygons(mask):
        part = cv2.fillPoly(np.zeros_like(mask), [np.array(outer, np.int32)], 255)
        for hole in holes:
            inside = cv2.fillPoly(np.zeros_like(mask), [np.array(hole, np.int32)], 255)
            ring = cv2.polylines(np.zeros_like(mask), [np.array(hole, np.int32)], True, 255)
            part[(inside > 0) & (ring == 0)] = 0
        drawn |= part
    np.testing.assert_array_equal(drawn, mask)


@settings(max_examples=40, deadline=None)
@given(masks)
def test_the_box_holds_the_mask_tightly(mask):
    box = bounding_box(mask)
    if not mask.any():
        assert box is None
        return
    assert box is not None
    left, top, width, height = box
    inside = mask[top : top + height, left : left + width]
    assert np.count_nonzero(inside) == np.count_nonzero(mask)
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_runs_are_coco_s():
    """[[0, 255], [255, 255]]: down the first column 0, 1, then 1, 1."""
    assert run_lengths(np.array([[0, 255], [255, 255]], np.uint8)) == [1, 3]
    assert run_lengths(np.array([[255]], np.uint8)) == [0, 1]
    assert run_lengths(np.zeros((2, 3), np.uint8)) == [6]


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("size", [(120, 160), (160, 120), (64, 64), (700, 500)])
def test_what_is_drawn_on_the_square_comes_back_where_it_was(size, fit):
    mask = cv2.ellipse(
        np.zeros(size, np.uint8), (size[1] // 3, size[0] // 2), (size[1] // 5, size[0] // 4), 30, 0, 360, 255, -1
    )
    back = in_frame(to_square(mask, 128, fit), *size, fit) >= 128
    assert back.shape == size
    both, either = (back & (mask > 0)).sum(), (back | (mask > 0)).sum()
    assert both / either > 0.95


@pytest.mark.parametrize("size", [(60, 16_000), (16_000, 60)])
def test_a_long_strip_does_not_cost_the_memory_of_its_square(size):
    """A panorama of 1 megapixel must not take 256 MB of the service."""
    tracemalloc.start()
    in_frame(np.zeros((64, 64), np.uint8), *size, "pad")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_what_a_crop_did_not_see_is_nothing():
    framed = in_frame(np.full((32, 32), 0.9, np.float32), 60, 100, "crop")
    assert framed.shape == (60, 100)
    assert (framed[:, 20:80] > 0.89).all()
    assert (framed[:, :20] == 0).all()
    assert (framed[:, 80:] == 0).all()
