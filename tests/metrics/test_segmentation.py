"""Numbers a reader compares with published ones: each is held to a reference worked out another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial.distance import cdist

from derm_ml.metrics.segmentation import hd95, mask_scores

masks = arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))
pairs = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))
)


def picture(*boxes, shape=(20, 30)):
    mask = np.zeros(shape, np.uint8)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = 255
    return mask


def test_scores_of_two_squares_that_overlap_by_half():
    """10 × 10 against 10 × 10 moved by 5: 50 pixels in common, 50 too much, 50 missed, of 600."""
    scores = mask_scores(picture((0, 5, 10, 10)), picture((0, 0, 10, 10)))
    assert (scores.tp, scores.fp, scores.fn, scores.tn) == (50, 50, 50, 450)
    assert scores.dice == pytest.approx(0.5)
    assert scores.jaccard == pytest.approx(1 / 3)
    assert scores.thresholded_jaccard == 0
    assert scores.sensitivity == pytest.approx(0.5)
    assert scores.specificity == pytest.approx(0.9)
    assert scores.hd95 == pytest.approx(5)
    assert scores.hd95_share == pytest.approx(5 / np.hypot(20, 30))


@pytest.mark.parametrize(("common", "kept"), [(65, True), (64, False)])
def test_the_jaccard_counts_from_0_65_on(common, kept):
    said, truth = np.zeros((10, 10)), np.ones((10, 10))
    said.ravel()[:common] = 1
    scores = mask_scores(said, truth)
    assert scores.thresholded_jaccard == (pytest.approx(common / 100) if kept else 0)


def test_the_empty_mask_rule():
    """Right only where both are empty; a lesion drawn where none is, or missed, is as wrong as can be."""
    nothing, something = picture(), picture((2, 3, 4, 5))
    both = mask_scores(nothing, nothing)
    assert (both.dice, both.jaccard, both.thresholded_jaccard, both.hd95) == (1, 1, 1, 0)
    assert both.sensitivity is None
    for said, truth in ((nothing, something), (something, nothing)):
        scores = mask_scores(said, truth)
        assert (scores.dice, scores.jaccard, scores.thresholded_jaccard) == (0, 0, 0)
        assert scores.hd95 == pytest.approx(np.hypot(20, 30))
    assert mask_scores(nothing, something).sensitivity == 0
    assert mask_scores(np.ones((4, 4)), np.ones((4, 4))).specificity is None


def brute_hd95(a, b):
    cross = generate_binary_structure(2, 1)
    edges = [np.argwhere(m & ~binary_erosion(m, cross, border_value=0)) for m in (a, b)]
    distances = cdist(*edges)
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_scores_equal_their_definitions(pair):
    a, b = pair
    scores = mask_scores(a, b)
    both, either = (a & b).sum(), (a | b).sum()
    assert scores.jaccard == pytest.approx(both / either if either else 1)
    assert scores.dice == pytest.approx(2 * scores.jaccard / (1 + scores.jaccard))  # true of every picture
    assert scores.tp + scores.fp + scores.fn + scores.tn == a.size
    if a.any() and b.any():
        assert scores.hd95 == pytest.approx(brute_hd95(a, b), abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_turning_both_masks_changes_nothing_and_exchanging_them_only_the_errors(pair):
    a, b = pair
    scores, turned, exchanged = mask_scores(a, b), mask_scores(a.T[::-1], b.T[::-1]), mask_scores(b, a)
    assert turned.dice == scores.dice == exchanged.dice
    assert turned.hd95 == pytest.approx(scores.hd95, abs=1e-4)
    assert exchanged.hd95 == pytest.approx(scores.hd95, abs=1e-4)
    assert (exchanged.fp, exchanged.fn) == (scores.fn, scores.fp)


def test_five_per_cent_of_the_edge_may_be_far_away():
    """What the 95th percentile is for: a stray pixel must not decide the distance."""
    truth = picture((2, 2, 16, 16))
    said = truth.copy()
    said[10, 29] = 255
    assert hd95(said, truth) == 0


def test_masks_of_different_size_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        mask_scores(np.ones((3, 3)), np.ones((3, 4)))
