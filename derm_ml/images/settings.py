"""How an image becomes the square a network sees, and its map a mask: settings that a bundle keeps.

So training, evaluation and serving do the same. Plain data: nothing here reads an image.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

LARGEST_SIDE = 2048  # recipes end at 1024; the blank picture of the warm-up takes 12 MB at this
Views = Literal["none", "flips", "d4"]  # test-time augmentation: as it is; four flips; these and their transposes
Squaring = Literal["squash", "crop", "pad"]  # an image becomes a square: squashed, its centre, or padded with black
Channel = Literal["rgb", "green"]
Contrast = Literal["none", "clahe", "ben_graham"]  # condition.py
PairedAugmentation = Literal["none", "flips", "moderate", "robust", "strong"]  # augment.py; of an image and its mask
Augmentation = Literal[PairedAugmentation, "screening"]


class Preprocessing(BaseModel, extra="forbid", frozen=True):
    """What happens to an RGB uint8 picture before the graph, which normalises colour itself.

    `store_side`: pictures whose longer side exceeds it are first shrunk to it, as the dataset did (0: never).
    `fit`: `squash` to a square; `crop` the centre square; `pad` to a square with black.
    `field_of_view`, `channel`, `contrast`: what is done before that, see `condition.py`.
    `smallest_side`: with `crop`, the shorter side before the centre `side` pixels are cut (0: cut all of it).
    """

    side: int = Field(gt=0, le=LARGEST_SIDE)
    store_side: int = Field(ge=0, le=4096)
    fit: Squaring = "squash"
    smallest_side: int = Field(default=0, ge=0, le=LARGEST_SIDE)
    field_of_view: bool = False
    channel: Channel = "rgb"
    contrast: Contrast = "none"


class MaskRule(BaseModel, extra="forbid", frozen=True):
    """How a probability map becomes a mask, in this order: threshold, largest connected part, holes filled."""

    threshold: float = Field(0.5, gt=0, lt=1)
    largest_component: bool = False
    fill_holes: bool = False
