"""Training augmentation by name. The only module that knows albumentations (2.0.8, its last MIT release).

Every transform is drawn from the seed it is given, so the same (seed, epoch, sample) gives the same picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np

from derm_ml.images.preprocess import resize_smallest, to_square
from derm_ml.images.settings import Augmentation, PairedAugmentation, Squaring

Augment = Callable[[np.ndarray, int], np.ndarray]
CROPPED = ("moderate", "robust", "strong")  # these cut their own squares out of the whole picture
PairedAugment = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def augmentation(name: Augmentation, side: int, fit: Squaring = "squash", smallest_side: int = 0) -> Augment:
    """(H, W, 3) uint8 and a seed → (side, side, 3) uint8.

    `none`: only the square. `flips`: the eight symmetries of the square. `strong`: what winners of the ISIC
    challenges share (symmetries, scale and crop, rotation and shear, brightness, contrast, colour, small
    occlusions), applied to pictures of skin, which has no up and no left. `moderate`: symmetries, crops of at least
    70 % and a little colour, for findings that are small in the picture or for short training. `robust`: the same, and
    half of the pictures as a worse device would give them: blurred, small, compressed or noisy. `screening`: that of
    the original benign / malignant classifier, a random square cut out of a picture whose shorter side is
    `smallest_side`.
    """
    if name == "screening":
        return _Screening(_screening(side), max(side, smallest_side))
    pipeline, first_side = _pipeline(name, side)
    smallest = 0 if name in CROPPED else smallest_side
    return _Augmentation(pipeline, side, first_side, fit, smallest)


def paired_augmentation(name: PairedAugmentation, side: int, fit: Squaring = "squash") -> PairedAugment:
    """The same (but `screening`) for a picture and its mask (H, W) of 0 and 255, moved alike → (side, side), 0 and 255.

    The mask is interpolated as the picture is and cut at the half: nearest neighbours would shift it by up to half
    a pixel against the picture. Colours and occlusions leave it as it is: a covered lesion is still there.
    """
    return _PairedAugmentation(*_pipeline(name, side), side, fit)


# Classes, not closures: worker processes are sent them.


@dataclass(frozen=True)
class _Augmentation:
    pipeline: A.Compose | None
    side: int
    first_side: int
    fit: Squaring
    smallest: int

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        square = _first_square(image, self.side, self.first_side, self.fit, self.smallest)
        if self.pipeline is None:
            return square
        return np.ascontiguousarray(_seeded(self.pipeline, seed)(image=square)["image"])


@dataclass(frozen=True)
class _PairedAugmentation:
    pipeline: A.Compose | None
    first_side: int
    side: int
    fit: Squaring

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = (_first_square(picture, self.side, self.first_side, self.fit) for picture in (image, mask))
        if self.pipeline is not None:
            moved = _seeded(self.pipeline, seed)(image=image, mask=mask)
            image, mask = np.ascontiguousarray(moved["image"]), moved["mask"]
        return image, np.where(mask >= 128, np.uint8(255), np.uint8(0))


@dataclass(frozen=True)
class _Screening:
    pipeline: A.Compose
    smallest: int

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        resized = resize_smallest(image, self.smallest)
        return np.ascontiguousarray(_seeded(self.pipeline, seed)(image=resized)["image"])


def _pipeline(name: PairedAugmentation, side: int) -> tuple[A.Compose | None, int]:
    """The transforms (None: none), and the side of the square they start from."""
    if name == "none":
        return None, side
    if name == "flips":
        return A.Compose([A.D4(p=1)]), side
    if name not in CROPPED:
        raise ValueError(f"no augmentation '{name}'; known: none, flips, moderate, robust, strong, screening")
    first_side = round(side * 1.15)  # so that zooming in by 15 % invents no pixels
    linear: dict[str, Any] = {"interpolation": cv2.INTER_LINEAR, "mask_interpolation": cv2.INTER_LINEAR}
    if name in ("moderate", "robust"):
        moderate = [
            A.RandomResizedCrop((side, side), scale=(0.7, 1.0), **linear, p=1),
            A.D4(p=1),
            A.ColorJitter(0.2, 0.2, 0.2, 0.02, p=1),
        ]
        worse = [A.OneOf(_worse_devices(side), p=0.5)] if name == "robust" else []
        return A.Compose(moderate + worse), first_side
    edges: dict[str, Any] = {"border_mode": cv2.BORDER_REFLECT_101, **linear}
    pipeline = A.Compose(
        [
            A.RandomResizedCrop((side, side), scale=(0.6, 1.0), ratio=(0.8, 1.25), **linear, p=1),
            A.D4(p=1),
            A.Affine(scale=(0.9, 1.1), rotate=(-45, 45), shear=(-10, 10), **edges, p=0.5),
            A.RandomBrightnessContrast(0.2, 0.2, p=0.7),
            A.HueSaturationValue(8, 25, 12, p=0.7),  # dermatoscopes differ in white balance, hardly in hue
            A.CoarseDropout((1, 3), hole_height_range=(0.05, 0.15), hole_width_range=(0.05, 0.15), p=0.25),
        ]
    )
    return pipeline, first_side


def _worse_devices(side: int) -> list[Any]:
    """Out of focus by up to 2 % of the side, of a quarter of the pixels and more, a messenger's JPEG, a dark room."""
    return [
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.003 * side, 0.02 * side), p=1),
        A.Downscale(
            scale_range=(0.25, 0.75),
            interpolation_pair={"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR},
            p=1,
        ),
        A.ImageCompression(quality_range=(20, 80), p=1),
        A.GaussNoise(std_range=(0.01, 0.06), p=1),
    ]


def _first_square(image: np.ndarray, side: int, first_side: int, fit: Squaring, smallest: int = 0) -> np.ndarray:
    """The square the transforms start from. One from which crops are cut anyway is not resampled twice: a picture that
    is square and little larger stays as it is."""
    height, width = image.shape[:2]
    if first_side > side and not smallest and height == width and first_side <= height <= 1.5 * first_side:
        return image
    return to_square(image, first_side, fit, smallest)


def _screening(side: int) -> A.Compose:
    """Every value is the original's; what lies outside a turned picture is black, the library's default."""
    return A.Compose(
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


def _seeded(pipeline: A.Compose, seed: int) -> A.Compose:
    pipeline.set_random_seed(seed % 2**32)
    return pipeline
