"""Losses for single-label and multi-label classification with unknown targets.

Shapes: logits (N, L) float; targets (N, L) of 1, 0 or NaN; class weights (L,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def softmax_loss(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0, focal: float = 0.0
) -> Tensor:
    """Cross-entropy of one label out of L, class-weighted, with label smoothing or focal modulation.

    `smoothing` in 0..1 spreads that share over all labels (Szegedy et al. 2016, section 7); `focal` is γ of
    Lin et al. 2017 (0: plain cross-entropy). The mean is over images, weighted like `torch`'s own.
    """
    labels = targets.argmax(dim=1)
    if not focal:
        return functional.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    log_p = functional.log_softmax(logits, dim=1)
    soft = functional.one_hot(labels, logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
    scale = torch.ones_like(log_p[0]) if weights is None else weights
    per_image = -(soft * scale * (1 - log_p.exp()) ** focal * log_p).sum(dim=1)
    return per_image.sum() / scale[labels].sum()


def sigmoid_loss(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0, focal: float = 0.0
) -> Tensor:
    """Binary cross-entropy per label; a NaN target takes no part. `weights` multiplies the positives of each label."""
    known = ~targets.isnan()
    soft = targets.nan_to_num().clamp(smoothing / 2, 1 - smoothing / 2)
    loss = functional.binary_cross_entropy_with_logits(logits, soft, pos_weight=weights, reduction="none")
    if focal:
        p = logits.sigmoid()
        loss = loss * (soft * (1 - p) + (1 - soft) * p) ** focal
    return (loss * known).sum() / known.sum().clamp(min=1)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    focal: float = 0.0,
    negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Easy negatives count little, very easy ones not at all; a NaN target takes no part.

    For a positive −(1 − p)^focal · log p, for a negative −q^negative · log(1 − q) with q = max(p − margin, 0).
    Source: Ridnik et al. 2021 (arXiv 2009.14119), equations 4 to 7. `weights` and `smoothing` as `sigmoid_loss`.
    """
    known = ~targets.isnan()
    soft = targets.nan_to_num().clamp(smoothing / 2, 1 - smoothing / 2)
    p = logits.sigmoid()
    q = (p - margin).clamp(min=0)
    positive = soft * (1 if weights is None else weights) * functional.logsigmoid(logits)
    # the modulating factors carry no gradient, as in the authors' code: it is steadier
    loss = positive * (1 - p).detach() ** focal + (1 - soft) * torch.log1p(-q) * q.detach() ** negative
    return -(loss * known).sum() / known.sum().clamp(min=1)
