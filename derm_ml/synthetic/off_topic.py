"""Images that do not belong into a set of lesions: of something else, or of nothing.

off_topic(k, height, width)      empty(k, height, width)          RGB (height, width, 3) uint8, the same for the same k
"""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.synthetic.fundus import draw_fundus


def _noise(rng: np.random.Generator, image: np.ndarray) -> None:
    image[:] = rng.integers(0, 256, image.shape)


def _page(rng: np.random.Generator, image: np.ndarray) -> None:
    for y in range(12, image.shape[0], 14):
        cv2.putText(image, "findings of visit", (4, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1)


def _landscape(rng: np.random.Generator, image: np.ndarray) -> None:
    image[: image.shape[0] // 2], image[image.shape[0] // 2 :] = (120, 170, 235), (60, 140, 50)


def _circles(rng: np.random.Generator, image: np.ndarray) -> None:
    for _ in range(25):
        middle = tuple(int(rng.integers(side)) for side in image.shape[1::-1])
        cv2.circle(image, middle, int(rng.integers(5, 40)), tuple(int(c) for c in rng.integers(0, 255, 3)), -1)


def _fundus(rng: np.random.Generator, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    image[:] = draw_fundus(("glaucoma",), int(rng.integers(1000)), side=height, width=width, eye="left").image


_MAKERS = (_noise, _page, _landscape, _circles, _fundus)
_COLOURS = ((255, 255, 255), (0, 0, 0), (128, 128, 128), (220, 180, 160), (200, 150, 130))


DISTINCT = (0, 3, 4)  # k modulo 5 of images that never look alike: pages and landscapes are near-duplicates


def off_topic(k: int, height: int, width: int) -> np.ndarray:
    """An RGB image of anything but a lesion."""
    image = np.full((height, width, 3), 245, np.uint8)
    _MAKERS[k % len(_MAKERS)](np.random.default_rng(k), image)
    return image


def empty(k: int, height: int, width: int) -> np.ndarray:
    """One colour with the noise of a camera, every second one darker towards its corners."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = (1 - 0.25 * (k % 2) * (x * x + y * y))[..., None]
    noise = np.random.default_rng(k).normal(0, 3, (height, width, 3))
    return np.clip(np.array(_COLOURS[k % len(_COLOURS)]) * light + noise, 0, 255).astype(np.uint8)
