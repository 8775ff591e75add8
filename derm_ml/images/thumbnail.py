"""Small pictures for pages and answers."""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.images.preprocess import limit_side


def thumbnail(rgb: np.ndarray, side: int) -> bytes:
    """A JPEG of (H, W, 3) uint8 whose longer side has at most `side` pixels: some 3 kB at 96."""
    small = limit_side(rgb, side)
    done = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return done.tobytes()
