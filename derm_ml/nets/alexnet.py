"""The AlexNet variant of the original retinal classifier: wider second kernels, batch normalisation after each ReLU.

Krizhevsky et al. 2012 with conv 96 k11 s4, 256 k11, 384, 384, 256 k3, three max-pools 3/2. Its maps are flattened, not
pooled to their mean, before the dense layers.

Example:
    >>> alexnet_features()(torch.zeros(1, 3, 256, 256)).shape
    torch.Size([1, 256, 6, 6])
"""

from __future__ import annotations

import torch
from torch import nn

from derm_ml.sentences import WrongValue

NAME = "alexnet_bn"
SMALLEST_SIDE = 96  # pixels: below it the third pool has nothing left to pool


def alexnet_features() -> nn.Sequential:
    """(N, 3, side, side) float, side ≥ 96 → the last pooled maps (N, 256, h, w); h = w = 6 at 256 pixels."""
    return nn.Sequential(
        *_layer(3, 96, 11, stride=4, padding=0),
        nn.MaxPool2d(3, 2),
        *_layer(96, 256, 11),
        nn.MaxPool2d(3, 2),
        *_layer(256, 384, 3),
        *_layer(384, 384, 3),
        *_layer(384, 256, 3),
        nn.MaxPool2d(3, 2),
    )


def cells_of(features: nn.Module, side: int) -> int:
    """How many cells (h · w) the last map has for pictures of `side` pixels. Raises `ValueError` below 96 pixels."""
    if side < SMALLEST_SIDE:
        raise WrongValue(f"side={side}: {NAME} needs images of {SMALLEST_SIDE} pixels or more")
    training = features.training
    with torch.no_grad():
        height, width = features.eval()(torch.zeros(1, 3, side, side)).shape[2:]
    features.train(training)
    return height * width


def _layer(channels: int, maps: int, kernel: int, stride: int = 1, padding: int | None = None) -> list[nn.Module]:
    inside = kernel // 2 if padding is None else padding
    return [nn.Conv2d(channels, maps, kernel, stride, inside), nn.ReLU(), nn.BatchNorm2d(maps)]
