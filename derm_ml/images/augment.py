"""Training augmentation by name. The only module that knows albumentations (2.0.8, its last MIT release).

Every transform is drawn from the seed it is given, so the same (seed, epoch, sample) gives the same picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks a server for news at import otherwise

import albumentations as A
import cv2
import numpy as np

from derm_ml.images.preprocess import Fit, resize_smallest, to_square

Augment = Callable[[np.ndarray, int], np.ndarray]


def augmentation(name: str, side: int, fit: Fit = "squash", smallest_side: int = 0) -> Augment:
    """(H, W, 3) uint8 and a seed → (side, side, 3) uint8.

    `none`: only the square. `flips`: the eight symmetries of the square. `strong`: what winners of the ISIC
    challenges share (symmetries, scale and crop, rotation and shear, brightness, contrast, colour, small
    occlusions), applied to pictures of skin, which has no up and no left. `screening`: that of the original
    benign / malignant classifier, a random square cut out of a picture whose shorter side is `smallest_side`.
    """
    if name == "none":
        return lambda image, _seed: to_square(image, side, fit, smallest_side)
    if name == "flips":
        return _seeded(A.Compose([A.D4(p=1)]), lambda image: to_square(image, side, fit, smallest_side))
    if name == "screening":
        return _screening(side, smallest_side)
    if name != "strong":
        raise ValueError(f"no augmentation '{name}'; known: none, flips, strong, screening")
    room = round(side * 1.15)  # so that zooming in by 15 % invents no pixels
    pipeline = A.Compose(
        [
            A.RandomResizedCrop((side, side), scale=(0.6, 1.0), ratio=(0.8, 1.25), interpolation=cv2.INTER_LINEAR, p=1),
            A.D4(p=1),
            A.Affine(scale=(0.9, 1.1), rotate=(-45, 45), shear=(-10, 10), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            A.RandomBrightnessContrast(0.2, 0.2, p=0.7),
            A.HueSaturationValue(8, 25, 12, p=0.7),  # dermatoscopes differ in white balance, hardly in hue
            A.CoarseDropout((1, 3), hole_height_range=(0.05, 0.15), hole_width_range=(0.05, 0.15), p=0.25),
        ]
    )
    return _seeded(pipeline, lambda image: to_square(image, room, fit))


def _screening(side: int, smallest_side: int) -> Augment:
    """Every value is the original's; what lies outside a turned picture is black, the library's default."""
    pipeline = A.Compose(
        [
            A.Affine(
                scale=(0.9, 1.1),
                translate_percent=(-0.05, 0.05),
                rotate=(-180, 180),
                shear=(-15, 15),
                p=0.33,
            ),
            A.RandomCrop(side, side),
            A.RGBShift(16, 16, 16, p=0.1),
            A.RandomBrightnessContrast(0.1, 0.1, p=0.1),
        ]
    )
    return _seeded(pipeline, lambda image: resize_smallest(image, max(side, smallest_side)))


def _seeded(pipeline: A.Compose, first: Callable[[np.ndarray], np.ndarray]) -> Augment:
    def augment(image: np.ndarray, seed: int) -> np.ndarray:
        pipeline.set_random_seed(seed % 2**32)
        return np.ascontiguousarray(pipeline(image=first(image))["image"])

    return augment
