"""Losses for binary segmentation.

Shapes: logits (N, 1, H, W) float; masks (N, 1, H, W) float of 0 and 1. Each is a mean over the images of the batch.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0  # pixels: an empty prediction of an empty mask loses nothing, and nothing is divided by nothing


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 − Dice of the probabilities, for each image: 1 − (2 Σ p·y + 1) / (Σ p + Σ y + 1).

    Source: Milletari et al. 2016, arXiv 1606.04797, with p and y not squared, as Isensee et al. 2018 write it.
    """
    p, y = logits.sigmoid().flatten(1), masks.flatten(1)
    return (1 - (2 * (p * y).sum(1) + SMOOTH) / (p.sum(1) + y.sum(1) + SMOOTH)).mean()


def dice_bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft Dice plus binary cross-entropy: the one follows the overlap, the other gives every pixel a gradient."""
    return soft_dice_loss(logits, masks) + functional.binary_cross_entropy_with_logits(logits, masks)
