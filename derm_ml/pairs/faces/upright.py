"""The upright face: the frame in which faces of every camera are the same size and place."""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.images.geometry import similarity
from derm_ml.pairs.faces.face import Face

CANONICAL = 192  # side of the frame in pixels
EYES_APART = 0.32 * CANONICAL
PLACES = {  # the average upright face in the canonical frame, as shares of its side
    "right_eye": (0.34, 0.40),
    "left_eye": (0.66, 0.40),
    "nose": (0.50, 0.58),
    "right_mouth": (0.37, 0.74),
    "left_mouth": (0.63, 0.74),
    "right_eye_corner": (0.26, 0.40),
    "left_eye_corner": (0.74, 0.40),
    "nose_base": (0.50, 0.61),
    "right_top": (0.16, 0.20),
    "left_top": (0.84, 0.20),
    "left_bottom": (0.84, 0.88),
    "right_bottom": (0.16, 0.88),
}


def to_canonical(face: Face) -> np.ndarray:
    """The similarity (3, 3) from a photo's pixels to the canonical frame in which its face stands upright."""
    names = [name for name in face.anchors if name in PLACES]
    source = np.array([face.anchors[name] for name in names])
    return similarity(source, CANONICAL * np.array([PLACES[name] for name in names]))


def upright(photo: np.ndarray, matrix: np.ndarray, side: int, is_mirrored: bool = False) -> np.ndarray:
    """The square (side, side, …) to which a similarity (3, 3) takes a photo.

    `is_mirrored`: the photo shows the face mirrored, as a selfie camera does; it is turned back.
    """
    matrix = matrix[:2]
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink < 0.5:  # area averaging, which warpAffine does not do
        photo = cv2.GaussianBlur(photo, (0, 0), 0.4 / shrink)
    found = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(found[:, ::-1]) if is_mirrored else found


def face_oval() -> np.ndarray:
    """(CANONICAL, CANONICAL) uint8: 255 where a face is, from brow to chin."""
    mask = np.zeros((CANONICAL, CANONICAL), np.uint8)
    middle, axes = (CANONICAL // 2, round(0.52 * CANONICAL)), (round(0.36 * CANONICAL), round(0.46 * CANONICAL))
    cv2.ellipse(mask, middle, axes, 0, 0, 360, 255, -1)
    return mask


def head_mask(face: Face, shape: tuple[int, ...]) -> np.ndarray:
    """The head in a photo: wider than the oval, for a half profile shows a cheek beyond it."""
    x1, y1, x2, y2 = face.box
    mask = np.zeros(shape, np.uint8)
    centre = (round((x1 + x2) / 2), round((y1 + y2) / 2))
    cv2.ellipse(mask, centre, (round(0.75 * (x2 - x1)), round(0.72 * (y2 - y1))), 0, 0, 360, 255, -1)
    return mask
