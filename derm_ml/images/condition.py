"""What may happen to a picture before it becomes a square: crop to the field of view, pick a channel, even contrast.

The settings are stored in the bundle (`settings.py`), so training, evaluation and serving do the same.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from derm_ml.images.preprocess import from_square, limit_side, to_square
from derm_ml.images.settings import Preprocessing

DARK, BRIGHT = 20, 245  # of 255: a camera's black frame has JPEG noise, a scanned page is not quite white
EDGE_SHARE = 0.02  # of a row's pixels that must be inside: specks of dust in the frame are fewer
SMALLEST_SHARE = 0.1  # of the picture: a smaller field of view is more likely an error than an eye
CLAHE_LIMIT, CLAHE_TILES = 2.0, 8  # contrast limit and tiles a side: Zuiderveld 1994, at OpenCV's usual setting
GRAHAM_GAIN, GRAHAM_BLUR = 4.0, 30  # Graham 2015: four times the difference from a blur of 1/30 of the radius


class Window(NamedTuple):
    """Rows top..bottom and columns left..right (exclusive ends) of a picture."""

    top: int
    bottom: int
    left: int
    right: int


def square(image: np.ndarray, rule: Preprocessing) -> np.ndarray:
    """RGB (H, W, 3) uint8 of any size → the square (side, side, 3) uint8 the network sees."""
    return to_square(conditioned(limit_side(image, rule.store_side), rule), rule.side, rule.fit, rule.smallest_side)


def in_picture(cam: np.ndarray, image: np.ndarray, rule: Preprocessing) -> np.ndarray:
    """A map (h, w) over the square in the frame of the whole picture: cold where the network saw nothing."""
    if not rule.field_of_view:
        return from_square(cam, image.shape, rule.side, rule.fit, rule.smallest_side)
    small = limit_side(image, rule.store_side)
    box = field_of_view(small)
    height, width = box.bottom - box.top, box.right - box.left
    inner = from_square(cam, (height, width), rule.side, rule.fit, rule.smallest_side).astype(np.float32)
    whole = np.full(small.shape[:2], inner.min(), np.float32)
    within = cv2.resize(inner, (width, height), interpolation=cv2.INTER_CUBIC)
    whole[box.top : box.bottom, box.left : box.right] = within.clip(inner.min(), inner.max())
    return whole


def conditioned(image: np.ndarray, rule: Preprocessing) -> np.ndarray:
    """RGB (H, W, 3) uint8 → (h, w, 3) uint8: cropped, evened and reduced to a channel as the rule says."""
    if rule.field_of_view:
        box = field_of_view(image)
        image = image[box.top : box.bottom, box.left : box.right]
    if rule.channel == "green":  # where haemoglobin absorbs most, so that vessels and bleedings stand out
        image = np.repeat(image[..., 1:2], 3, axis=2)
    if rule.contrast == "clahe":
        return clahe(image)
    if rule.contrast == "ben_graham":
        return ben_graham(image)
    return np.ascontiguousarray(image)


def field_of_view(image: np.ndarray) -> Window:
    """The box around what is neither the black frame of a camera nor a white page; all of it if none is found."""
    height, width = image.shape[:2]
    brightest = image.max(axis=2)
    inside = (brightest > DARK) & (image.min(axis=2) < BRIGHT)
    rows = np.flatnonzero(inside.mean(axis=1) > EDGE_SHARE)
    columns = np.flatnonzero(inside.mean(axis=0) > EDGE_SHARE)
    whole = Window(0, height, 0, width)
    if not len(rows) or not len(columns):
        return whole
    box = Window(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    area = (box.bottom - box.top) * (box.right - box.left)
    return box if area >= SMALLEST_SHARE * height * width else whole


def view(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: the round field of view of a camera, cut off or whole: the convex hull of the largest part that is
    neither its black frame nor a white page. The whole image where that is too small.
    """
    inside = ((image.max(axis=2) > DARK) & (image.min(axis=2) < BRIGHT)).astype(np.uint8)
    found, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not found or cv2.contourArea(largest := max(found, key=cv2.contourArea)) < SMALLEST_SHARE * inside.size:
        return np.ones(inside.shape, bool)
    return cv2.fillConvexPoly(np.zeros_like(inside), cv2.convexHull(largest), 1).astype(bool)


def squared_view(image: np.ndarray, rule: Preprocessing) -> np.ndarray:
    """(side, side) bool: the field of view in the square that the network sees."""
    small = limit_side(image, rule.store_side)
    inside = view(small).astype(np.uint8)
    if rule.field_of_view:
        box = field_of_view(small)
        inside = inside[box.top : box.bottom, box.left : box.right]
    return to_square(inside, rule.side, rule.fit, rule.smallest_side).astype(bool)


def clahe(image: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of the lightness (CIE L*); colours stay."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(CLAHE_LIMIT, (CLAHE_TILES, CLAHE_TILES)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def ben_graham(image: np.ndarray) -> np.ndarray:
    """The local mean mapped to grey 128, differences from it four times larger; the black frame becomes grey too.

    Source: B. Graham, Kaggle diabetic retinopathy detection competition report (2015).
    """
    radius = max(image.shape[:2]) / 2
    blurred = cv2.GaussianBlur(image, (0, 0), max(1.0, radius / GRAHAM_BLUR))
    evened = cv2.addWeighted(image, GRAHAM_GAIN, blurred, -GRAHAM_GAIN, 128)
    frame = cv2.erode((image.max(axis=2) > DARK).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    evened[frame] = 128
    return evened
