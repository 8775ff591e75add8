"""A segmentation network on RGB uint8 pictures: colours are normalised inside, so that training and serving agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from derm_ml.nets.torchvision_backbones import MEAN, STD


class SegmenterNetwork(nn.Module):
    """forward(images (N, H, W, 3) uint8) → logits (N, 1, H, W) float, one for each pixel.

    `body` maps (N, 3, H, W) float, normalised as its encoder wants it (its `mean` and `std`, else ImageNet's), to such
    logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(getattr(body, "mean", MEAN)).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(getattr(body, "std", STD)).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self._normalised(images))

    def with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and an embedding (N, D) of the images, from a body that gives one."""
        return self.body.with_embedding(self._normalised(images))  # pyright: ignore[reportCallIssue]

    def _normalised(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()  # a permuted NHWC tensor is channels_last already
        return (x - self.mean) / self.std
