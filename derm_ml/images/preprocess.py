"""From an RGB picture to the square a network sees. The same code runs in training, evaluation and serving."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

cv2.setNumThreads(0)  # images are prepared in parallel processes already: inner threads only fight

Fit = Literal["squash", "crop", "pad"]


def limit_side(image: np.ndarray, longest: int) -> np.ndarray:
    """Shrink (H, W, 3) uint8 so that its longer side is at most `longest` pixels (0: leave it)."""
    height, width = image.shape[:2]
    if not longest or max(height, width) <= longest:
        return image
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def to_square(image: np.ndarray, side: int, fit: Fit = "squash") -> np.ndarray:
    """(H, W, 3) uint8 → (side, side, 3) uint8: squashed, centre-cropped, or padded with black."""
    height, width = image.shape[:2]
    if fit == "crop":
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        image = image[top : top + edge, left : left + edge]
    elif fit == "pad" and height != width:
        edge = max(height, width)
        top, left = (edge - height) // 2, (edge - width) // 2
        image = cv2.copyMakeBorder(
            image, top, edge - height - top, left, edge - width - left, cv2.BORDER_CONSTANT, value=(0, 0, 0)
        )
    if image.shape[:2] == (side, side):
        return np.ascontiguousarray(image)
    # area averaging keeps hairs and dots from aliasing when shrinking; linear is smooth when enlarging
    shrink = side < max(image.shape[:2])
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
