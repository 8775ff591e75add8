"""What an image looks like, in a few dozen numbers that cost a millisecond: what the input gate judges.

    numbers = statistics(rgb)            (S,) float32
    numbers[SHARPNESS]                   each of the first ones by name, with its unit below

They are taken of the image as a dataset stores it (`store_side`), so that evaluation and endpoint see the same.
The audit of a dataset looks closer (derm_ml/audit/looks.py) and takes some 20 ms an image.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from derm_ml.images.condition import field_of_view
from derm_ml.images.preprocess import limit_side

SHORTER_SIDE, BRIGHTEST, PLAINNESS, SHARPNESS, BORDER = range(5)
# shorter side in log2 pixels; L* that 98 % of the pixels are darker than; standard deviation in Lab units of the
# smooth image; log10 of the variance of the Laplacian of grey; share that is a black frame or a white page
NAMED = 5  # judged each by itself; the others, colour and texture, are judged together
SIDE = 64  # pixels of the longer side: the pattern of a lesion, a face or an eye is still there
SHARP_SIDE = 256  # sharpness is compared at one size, else it would measure the camera
_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_RINGS = (0.0, 0.4, 0.7, 1.01)  # distance from the centre, 1 being the border
_SCALES = (1, 2, 4)  # pixels of 64 (standard deviation)


def statistics(image: np.ndarray, store_side: int = 0) -> np.ndarray:
    """(S,) float32 of an RGB image (H, W, 3) uint8 of any size, after it was shrunk to `store_side` (0: as it is)."""
    image = limit_side(image, store_side)
    height, width = image.shape[:2]
    lab = _small(image)
    smooth = cv2.blur(lab, (5, 5))
    grey = cv2.cvtColor(limit_side(image, SHARP_SIDE), cv2.COLOR_RGB2GRAY)
    box = field_of_view(limit_side(image, SHARP_SIDE))
    seen = (box.bottom - box.top) * (box.right - box.left)
    named = [
        np.log2(min(height, width)),
        np.quantile(lab[..., 0], 0.98),
        np.sqrt(smooth.reshape(-1, 3).var(axis=0).sum()),
        np.log10(cv2.Laplacian(grey, cv2.CV_32F).var() + 1e-2),
        1 - seen / grey.size,
    ]
    return np.concatenate([named, _colours(lab), _texture(lab)]).astype(np.float32)


def _small(image: np.ndarray) -> np.ndarray:
    """CIE Lab (h, w, 3) float32, longer side `SIDE`; smaller images are enlarged: the scales of a texture compare."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _colours(lab: np.ndarray) -> np.ndarray:
    """The distribution of each channel over the image, and its mean and spread in rings around the centre."""
    down, across = (np.abs(np.linspace(-1, 1, size)) for size in lab.shape[:2])
    away = np.maximum(down[:, None], across)
    rings = [lab[(away >= low) & (away < high)] for low, high in itertools.pairwise(_RINGS)]
    spread = [part for ring in rings for part in (ring.mean(axis=0), ring.std(axis=0))]
    return np.concatenate([np.quantile(lab.reshape(-1, 3), _SHARES, axis=0).ravel(), *spread])


def _texture(lab: np.ndarray) -> np.ndarray:
    """How strong the detail of each channel is at each scale, as a logarithm, and along which direction it runs."""
    found, finer = [], lab
    for scale in _SCALES:
        coarser = cv2.GaussianBlur(finer, (0, 0), scale)
        found.append(np.log((finer - coarser).reshape(-1, 3).std(axis=0) + 0.05))
        finer = coarser
    steps = [np.log(np.abs(np.diff(lab[..., 0], axis=axis)).mean() + 0.05) for axis in (0, 1)]
    return np.concatenate([*found, [steps[0] - steps[1]]])
