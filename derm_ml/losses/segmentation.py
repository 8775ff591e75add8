"""Losses for binary segmentation.

Shapes: logits (N, 1, H, W) float; masks (N, 1, H, W) float of 0 and 1. Each is a mean over the images of the batch.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

BORDER_WEIGHT = 5.0  # of Wei et al. 2020
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


def boundary_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft Dice plus binary cross-entropy, in which pixels near the border of the lesion weigh up to six times as much.

    The weight of a pixel is 1 + 5 |y − mean of y around it|, the mean over a window of a tenth of the side: 1 far from
    the border, 3.5 on a straight one. Source: the structure loss of Wei et al. 2020, arXiv 1911.11445, with Dice in
    place of the intersection over union.
    """
    weights = 1 + BORDER_WEIGHT * (masks - _mean_around(masks)).abs()
    bce = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    p, y, w = logits.sigmoid().flatten(1), masks.flatten(1), weights.flatten(1)
    dice = 1 - (2 * (w * p * y).sum(1) + SMOOTH) / ((w * p).sum(1) + (w * y).sum(1) + SMOOTH)
    return (dice + (w * bce.flatten(1)).sum(1) / w.sum(1)).mean()


def _mean_around(masks: Tensor) -> Tensor:
    """(N, 1, H, W) → the mean over a square window of a tenth of the shorter side; beyond the image nothing counts."""
    half = max(1, min(masks.shape[-2:]) // 20)
    down = functional.avg_pool2d(masks, (2 * half + 1, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(down, (1, 2 * half + 1), 1, (0, half), count_include_pad=False)
