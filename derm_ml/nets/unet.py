"""A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) whose encoder is a pretrained backbone.

The encoder is any backbone of `nets/backbones.py`: its maps of each size are the skip connections.

    MobileNetV2, S = 256     encoder maps          decoder
    stride 2                 16  × 128 ──────────▶ conv3 conv3 → 16 ─▶ conv1 ─ ×2 ─▶ logits
    stride 4                 24  × 64  ──────────▶ conv3 conv3 → 32
    stride 8                 32  × 32  ──────────▶ conv3 conv3 → 64
    stride 16                96  × 16  ──────────▶ conv3 conv3 → 128
    stride 32                1280 × 8  ─▶ conv1 ─┘ (each step down: conv1 to the decoder's width, ×2, concat)

The last doubling is bilinear: convolutions at full resolution cost as much as all the others and draw no better edge.

Example:
    >>> UNet("mobilenet_v2", "none")(torch.zeros(1, 3, 256, 256)).shape
    torch.Size([1, 1, 256, 256])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from derm_ml.nets.backbones import pyramid
from derm_ml.nets.pretrained import AUTO

WIDTHS = (128, 64, 32, 16)  # maps of the decoder from the deepest level up; the shallowest width repeats


class Up(nn.Module):
    """(N, a, h, w) and a skip (N, s, H, W) → (N, b, H, W): conv1 a → b, enlarge, concat, two conv3 with batch norm."""

    def __init__(self, a: int, skip: int, b: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(a, b, 1)
        self.convs = nn.Sequential(*_conv(b + skip, b), *_conv(b, b))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = functional.interpolate(self.narrow(x), size=skip.shape[2:], mode="nearest")
        return self.convs(torch.cat([x, skip], dim=1))


class UNet(nn.Module):
    """(N, 3, H, W) float → logits (N, 1, H, W). H and W are multiples of 32."""

    def __init__(self, backbone_name: str, pretrained: str = AUTO) -> None:
        super().__init__()
        found = pyramid(backbone_name, pretrained)
        self.encoder, self.mean, self.std = found.levels, found.mean, found.std
        *skips, channels = found.channels
        ups = []
        for level, skip in enumerate(reversed(skips)):
            width = WIDTHS[min(level, len(WIDTHS) - 1)]
            ups.append(Up(channels, skip, width))
            channels = width
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.with_embedding(x)[0]

    def with_embedding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the mean of the encoder's deepest maps (N, C): what the network takes the image for."""
        *skips, maps = self.encoder(x)
        embedding = maps.mean(dim=(2, 3))
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            maps = up(maps, skip)
        logits = functional.interpolate(self.head(maps), size=x.shape[2:], mode="bilinear", align_corners=False)
        return logits, embedding


def _conv(a: int, b: int) -> list[nn.Module]:
    return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
