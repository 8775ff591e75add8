"""Does a photo show skin? Two photos of anything else register as well as two of one face: an eye's background sent
twice is the same, pixel by pixel.

    no_skin(photo)        "it is blank", … or "" for a photo that may show skin

Asked where no face was found: a face is skin. Each rule is far from what photographs of skin reach; docs/results.md
says how many of them it refuses.
"""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.images.statistics import BRIGHTEST, PLAINNESS, statistics

_DARK = 10.0  # L* that 98 % of the pixels are darker than; one in a thousand images of ISIC 2017 has less than 45
_BLANK = 0.5  # Lab units of spread; one in a thousand has less than 2.7
_NOISE = 0.3  # correlation of neighbouring pixels: 0 in noise; no photograph of 979 was below
_CROP = 256  # pixels of the middle in which it is taken, as sent: shrunk, noise is smooth
_BLACK = 6.0  # L* of the brightest corner: black in 299 of 300 photographs by fundus cameras
_CORNER = 0.06  # share of the shorter side
_SKIN_SHARE = 0.01
_SIDE = 64


def no_skin(photo: np.ndarray) -> str:
    """Why an RGB photo (H, W, 3) uint8 shows no skin, as half a sentence; "" where it may."""
    numbers = statistics(photo)
    if numbers[BRIGHTEST] < _DARK:
        return "is too dark"
    if numbers[PLAINNESS] < _BLANK:
        return "is blank"
    if _neighbours(photo) < _NOISE:
        return "shows noise and no skin"
    lab = cv2.cvtColor(
        cv2.resize(photo, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) / np.float32(255), cv2.COLOR_RGB2LAB
    )
    if _corner(lab[..., 0]) < _BLACK:
        return "shows a round field on black, as the photograph of an eye's background, and no face"
    return "" if _skin_share(lab) >= _SKIN_SHARE else "shows nothing in a colour of skin"


def _neighbours(photo: np.ndarray) -> float:
    """Correlation of pixels that lie side by side."""
    top, left = (max(0, (size - _CROP) // 2) for size in photo.shape[:2])
    grey = cv2.cvtColor(photo[top : top + _CROP, left : left + _CROP], cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(1 - np.diff(grey, axis=1).var() / max(2 * grey.var(), 1e-6))


def _corner(luminance: np.ndarray) -> float:
    """Mean L* of the brightest corner."""
    edge = max(2, round(_CORNER * _SIDE))
    ends = (slice(None, edge), slice(-edge, None))
    return float(max(luminance[rows, columns].mean() for rows in ends for columns in ends))


def _skin_share(lab: np.ndarray) -> float:
    """Share of pixels between pink and yellow-brown that are neither grey nor a saturated paint, of any lightness."""
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    return float(((chroma > 4) & (chroma < 60) & (hue > -30) & (hue < 95)).mean())
