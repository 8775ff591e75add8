"""Losses for single-label and multi-label classification with unknown targets.

Shapes: logits (N, L) float; targets (N, L) of 1, 0 or NaN; class weights (L,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def softmax_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of one label out of L, class-weighted, with label smoothing.

    `smoothing` in 0..1 spreads that share over all labels (Szegedy et al. 2016, section 7). The mean is over images,
    weighted as `torch` does it.
    """
    return functional.cross_entropy(logits, targets.argmax(dim=1), weights, label_smoothing=smoothing)


def sigmoid_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy per label; a NaN target takes no part. `weights` multiplies the positives of each label."""
    known = ~targets.isnan()
    soft = targets.nan_to_num().clamp(smoothing / 2, 1 - smoothing / 2)
    loss = functional.binary_cross_entropy_with_logits(logits, soft, pos_weight=weights, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Easy negatives count little, very easy ones not at all; a NaN target takes no part.

    For a positive −log p, for a negative −q^negative · log(1 − q) with q = max(p − margin, 0).
    Source: Ridnik et al. 2021 (arXiv 2009.14119), equations 4 to 7, with γ+ = 0.
    `weights` and `smoothing` as `sigmoid_loss`.
    """
    known = ~targets.isnan()
    soft = targets.nan_to_num().clamp(smoothing / 2, 1 - smoothing / 2)
    p = logits.sigmoid()
    q = (p - margin).clamp(min=0)
    positive = soft * (1 if weights is None else weights) * functional.logsigmoid(logits)
    # the modulating factor carries no gradient, as in the authors' code: it is steadier
    loss = positive + (1 - soft) * torch.log1p(-q) * q.detach() ** negative
    return -(loss * known).sum() / known.sum().clamp(min=1)
