"""How well a mask matches the true one, for one picture; means over pictures are what is reported.

Masks are (H, W) of 0 and non-zero, at the same resolution. The empty-mask rule of the ISIC challenges: where both
masks are empty the answer is perfect; where one is, it is as wrong as can be.

Source of the scores: Codella et al. 2019, arXiv 1902.03368 (task 1); of HD95: Huttenlocher et al. 1993, with the
95th percentile as in the BraTS challenge (Menze et al. 2015).

Example:
    >>> scores = mask_scores(np.array([[1, 1, 0, 0]]), np.array([[1, 1, 1, 0]]))
    >>> scores.dice, scores.tp, scores.fn
    (0.8, 2, 1)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

JACCARD_THRESHOLD = 0.65  # of the ISIC 2018 ranking: below it two people would not call it the same outline


@dataclass(frozen=True, slots=True)
class MaskScores:
    """Scores of one picture.

    dice, jaccard, thresholded_jaccard (0 below 0.65) in 0..1; sensitivity and specificity over pixels, None where
    there is no lesion or no background; hd95 in pixels; hd95_share, the same as a share of the picture's diagonal;
    tp, fp, fn, tn in pixels.
    """

    dice: float
    jaccard: float
    thresholded_jaccard: float
    sensitivity: float | None
    specificity: float | None
    hd95: float
    hd95_share: float
    tp: int
    fp: int
    fn: int
    tn: int


def mask_scores(said: np.ndarray, truth: np.ndarray) -> MaskScores:
    """All scores of a mask against the true one. Raises `ValueError` if their shapes differ."""
    if said.shape != truth.shape:
        raise ValueError(f"the masks must have the same shape, got {said.shape} and {truth.shape}")
    a, b = said > 0, truth > 0
    tp, fp, fn = _overlap(a, b)
    tn = a.size - tp - fp - fn
    jaccard = tp / (tp + fp + fn) if tp + fp + fn else 1.0
    distance = hd95(a, b)
    return MaskScores(
        dice=_dice(tp, fp, fn),
        jaccard=jaccard,
        thresholded_jaccard=jaccard if jaccard >= JACCARD_THRESHOLD else 0.0,
        sensitivity=tp / (tp + fn) if tp + fn else None,
        specificity=tn / (tn + fp) if tn + fp else None,
        hd95=distance,
        hd95_share=distance / float(np.hypot(*a.shape)),
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
    )


def dice(said: np.ndarray, truth: np.ndarray) -> float:
    """The Dice of a mask alone; the distance of the edges takes most of the time of `mask_scores`."""
    return _dice(*_overlap(said > 0, truth > 0))


def _overlap(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    """How many pixels both have, only the first, and only the second."""
    tp, fp, fn = (int(np.count_nonzero(x)) for x in (a & b, a & ~b, ~a & b))
    return tp, fp, fn


def _dice(tp: int, fp: int, fn: int) -> float:
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def hd95(a: np.ndarray, b: np.ndarray) -> float:
    """The 95th percentile of the distances between the edges of two masks, in pixels: the larger of both directions.

    An edge is made of the mask's pixels that touch the background (4-neighbours; beyond the picture is background).
    0 if both masks are empty; if one is, the picture's diagonal, the largest distance there is.
    """
    a, b = a > 0, b > 0
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return float(np.hypot(*a.shape))
    edge_a, edge_b = _edge(a), _edge(b)
    there = np.percentile(_distance_to(edge_b)[edge_a], 95)
    back = np.percentile(_distance_to(edge_a)[edge_b], 95)
    return float(max(there, back))


def _edge(mask: np.ndarray) -> np.ndarray:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inner == 0)


def _distance_to(edge: np.ndarray) -> np.ndarray:
    """Euclidean distance of each pixel to the nearest pixel of the edge, exact."""
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
