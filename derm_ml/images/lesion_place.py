"""Where the lesion is in an image, and the image without it, without what surrounds it, and the tone of its skin.

    place = central(*image.shape[:2])  or  boxed(mask)         (H, W) bool
    lesion_hidden(image, place)   background_removed(image, place)   skin_tone(image, place)
    on_background_of(other, image, place)

Images are RGB (H, W, 3) uint8. A mask is hidden as the box around it: its outline alone would say how ragged and how
large the lesion is, which is what a classifier may rightly look at (Bissoto et al. 2019, arXiv:1904.08818).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from derm_ml.images.masks import bounding_box

AROUND = 0.15  # of the box's longer side is added on every side: a soft edge and a halo belong to the lesion
CENTRAL = 0.46  # semi-axes of the ellipse, as a share of width and height: 66 % of the image, its corners outside
FEATHER = 0.02  # of the shorter side: a sharp edge of the cover would be a structure of its own
_DARK, _BRIGHT = 30, 250  # of 255: the black frame of a dermatoscope, and glare, are no skin
_LEAST_SKIN = 200  # pixels: the median of fewer is that of a few hairs


def central(height: int, width: int) -> np.ndarray:
    """(H, W) bool: the ellipse around the middle, where nobody says where the lesion is."""
    inside = np.zeros((height, width), np.uint8)
    axes = (round(CENTRAL * width), round(CENTRAL * height))
    return cv2.ellipse(inside, (width // 2, height // 2), axes, 0, 0, 360, 1, -1).astype(bool)


def boxed(mask: np.ndarray) -> np.ndarray | None:
    """(H, W) bool: the box around a mask (H, W) of 0 and 255, with a margin; None for an empty mask."""
    box = bounding_box(mask)
    if box is None:
        return None
    left, top, width, height = box
    margin = round(AROUND * max(width, height))
    inside = np.zeros(mask.shape, bool)
    inside[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin] = True
    return inside


def lesion_hidden(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The image with the place covered in the colour of the skin around it."""
    return _covered(image, place, place)


def background_removed(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The image with everything but the place covered in the colour of its own skin."""
    return _covered(image, ~place, place)


def on_background_of(other: np.ndarray, image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The place as the image shows it, its edge soft, on what surrounds the same place in another image.

    So a network that is trained on such images cannot tell a lesion by the skin it usually lies on (Xiao et al. 2021,
    arXiv:2006.09994).
    """
    height, width = image.shape[:2]
    around = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
    share = cv2.GaussianBlur(place.astype(np.float32), (0, 0), max(0.8, FEATHER * min(place.shape)))[..., None]
    return np.round(image * share + around * (1 - share)).astype(np.uint8)


def skin_tone(image: np.ndarray, place: np.ndarray) -> float:
    """The individual typology angle (ITA) in degrees of the pixels outside the place; NaN where too few are skin.

    arctan((L* − 50) / b*), above 55 very light, below −30 dark (Chardon, Cretois & Hourseau 1991,
    doi:10.1111/j.1467-2494.1991.tb00561.x). An estimate: nobody knows the light of the photograph.
    """
    outside = image[~place & (image.min(axis=2) > _DARK) & (image.max(axis=2) < _BRIGHT)]
    if len(outside) < _LEAST_SKIN:
        return math.nan
    colour = np.median(outside, axis=0).astype(np.float32).reshape(1, 1, 3) / 255
    lightness, _, yellow = (float(v) for v in cv2.cvtColor(colour, cv2.COLOR_RGB2LAB)[0, 0])
    return math.degrees(math.atan2(lightness - 50, yellow)) if yellow > 0 else math.nan


def _covered(image: np.ndarray, cover: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The image with `cover` (H, W) bool, its edge soft, in the median colour of what lies outside the place."""
    outside = image[~place] if not place.all() else image.reshape(-1, 3)
    skin = outside[outside.min(axis=1) > _DARK]
    colour = np.median(skin if len(skin) else outside, axis=0)
    share = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), max(0.8, FEATHER * min(cover.shape)))
    share = np.maximum(share, cover)[..., None]  # soft outwards only: what is to be covered is covered
    return np.round(image * (1 - share) + colour * share).astype(np.uint8)
