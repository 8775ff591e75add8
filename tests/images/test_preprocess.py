"""The square a network sees, and the way back: a heatmap in the wrong place explains the wrong spot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from derm_ml.images.augment import augmentation
from derm_ml.images.preprocess import from_square, resize_smallest, to_square

sizes = st.tuples(st.integers(60, 200), st.integers(60, 200))


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.indices((height, width))
    return np.stack([255 * x / width, 255 * y / height, np.zeros_like(x)], axis=2).astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(sizes)
def test_a_crop_with_a_smallest_side_is_resizing_then_cutting_the_centre(size):
    """As the original judged: shorter side 64, centre 56."""
    picture = gradient(*size)
    found = to_square(picture, 56, "crop", 64)
    resized = resize_smallest(picture, 64)
    top, left = ((n - 56) // 2 for n in resized.shape[:2])
    expected = resized[top : top + 56, left : left + 56]
    assert found.shape == (56, 56, 3)
    assert np.abs(found.astype(int) - expected).mean() < 3  # one resampling against another


def test_without_a_smallest_side_the_crop_is_the_whole_shorter_side():
    picture = gradient(60, 90)
    assert np.array_equal(to_square(picture, 60, "crop"), picture[:, 15:75])


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([("squash", 0), ("crop", 0), ("crop", 80), ("pad", 0)]), st.integers(0, 63))
@example((72, 60), ("pad", 0), 8)  # a cell over the edge of the padding
def test_a_hot_cell_comes_back_over_what_it_saw(size, how, cell):
    """The map of each cell, laid over the picture, lies where that part of the square came from."""
    fit, smallest = how
    height, width = size
    row, column = divmod(cell, 8)
    cam = np.zeros((8, 8), np.float32)
    cam[row, column] = 1
    back = from_square(cam, (height, width, 3), 64, fit, smallest)
    if not back.any():  # a cell over the padding: there is no such place in the picture
        assert fit == "pad"
        return
    shown = to_square(np.full((height, width, 3), 255, np.uint8), 64, fit, smallest)
    if shown[row * 8 + 4, column * 8 + 4].min() < 255:  # nor has the middle of this one a place there
        return
    hot = np.argwhere(back > 0)[0] + 0.5
    found = hot / back.shape * (height, width)
    square = to_square(gradient(height, width), 64, fit, smallest)
    seen = square[row * 8 + 4, column * 8 + 4, :2].astype(float)[::-1] / 255 * (height, width)
    cell_size = np.array([height, width]) / back.shape
    assert (np.abs(found - seen) <= 1.1 * cell_size + 3).all()


def test_screening_pictures_come_from_their_seed_and_vary():
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    augment = augmentation("screening", 56, "crop", 64)
    seen = [augment(picture, seed) for seed in range(200)]
    assert all(s.shape == (56, 56, 3) and s.dtype == np.uint8 for s in seen)
    assert all(np.array_equal(s, augment(picture, seed)) for seed, s in enumerate(seen[:10]))
    assert len({s.tobytes() for s in seen}) > 150
    # a third is turned and shifted, which brings black corners in; the others are plain cuts of the picture
    resized = resize_smallest(picture, 64)
    cuts = {resized[t : t + 56, c : c + 56].tobytes() for t in range(9) for c in range(resized.shape[1] - 55)}
    plain = np.mean([s.tobytes() in cuts for s in seen])
    assert plain == pytest.approx(0.67 * 0.9 * 0.9, abs=0.12)
