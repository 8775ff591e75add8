"""The losses there are, by name. Light to import: recipes and forms are made from them."""

from __future__ import annotations

from typing import Literal

ClassificationLoss = Literal["cross_entropy", "asymmetric"]
SegmentationLoss = Literal["dice", "dice_bce", "boundary"]
PixelLoss = Literal["mse", "l1"]  # of a reconstruction
CodeDistance = Literal["bce", "cosine", "mse"]  # of the two codes of a pair
