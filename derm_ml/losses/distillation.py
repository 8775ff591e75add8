"""The loss of a network that learns the answers of another one beside the labels.

Shapes: logits and answers (N, L) float, before calibration; targets (N, L) of 1, 0 or NaN.
Sources: Hinton et al. 2015 (arXiv 1503.02531), section 2; for independent labels the same of each by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from derm_ml.metrics.heads import ClassifierHead


def soft_loss(logits: Tensor, answers: Tensor, temperature: float, head: ClassifierHead) -> Tensor:
    """How far the softened probabilities lie from those of the answers: 0 where they are the same (Kullback-Leibler).

    Both logits are divided by `temperature`, and the loss is multiplied by its square, so that gradients keep their
    size. With a sigmoid head it is the mean over the labels.
    """
    ours, theirs = logits / temperature, answers / temperature
    if head == "softmax":
        apart = functional.kl_div(ours.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean")
    else:
        p = theirs.sigmoid()
        own = functional.binary_cross_entropy_with_logits(theirs, p)
        apart = functional.binary_cross_entropy_with_logits(ours, p) - own
    return apart * temperature**2


def taught_loss(
    logits: Tensor,
    targets: Tensor,
    answers: Tensor,
    of_labels: Callable[[Tensor, Tensor], Tensor],
    share: float,
    temperature: float,
    head: ClassifierHead,
) -> Tensor:
    """`share` of the loss to the answers, and the rest of the loss to the labels of those images that have one.

    `of_labels(logits, targets)` is the mean loss of labelled images.
    """
    soft = share * soft_loss(logits, answers, temperature, head)
    unknown = targets.isnan()
    labelled = ~(unknown.any(dim=1) if head == "softmax" else unknown.all(dim=1))
    if share == 1 or not labelled.any():
        return soft
    counted = labelled.to(torch.float32).mean()
    return soft + (1 - share) * counted * of_labels(logits[labelled], targets[labelled])
