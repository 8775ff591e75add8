"""A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) whose encoder is a pretrained torchvision backbone.

The encoder is any backbone of `nets/backbones.py`: its maps just before each halving are the skip connections.

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

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from derm_ml.nets.backbones import backbone

WIDTHS = (128, 64, 32, 16)  # maps of the decoder from the deepest level up; the shallowest width repeats
PROBED = 128  # pixels of the picture that finds the levels: divisible by every stride there is


class Encoder(nn.Module):
    """A backbone that also gives its maps before each halving: (N, 3, H, W) → levels, the finest first.

    `channels` are the maps of each level; the first level has stride 2.
    """

    def __init__(self, name: str, pretrained: str) -> None:
        super().__init__()
        self.features, _ = backbone(name, pretrained)
        self.ends, self.channels = _levels(self.features)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for place, step in enumerate(_steps(self.features)):
            x = step(x)
            if place in self.ends:
                found.append(x)
        return found


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

    def __init__(self, backbone_name: str, pretrained: str = "torchvision") -> None:
        super().__init__()
        self.encoder = Encoder(backbone_name, pretrained)
        *skips, channels = self.encoder.channels
        ups = []
        for level, skip in enumerate(reversed(skips)):
            width = WIDTHS[min(level, len(WIDTHS) - 1)]
            ups.append(Up(channels, skip, width))
            channels = width
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        *skips, maps = self.encoder(x)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            maps = up(maps, skip)
        return functional.interpolate(self.head(maps), size=x.shape[2:], mode="bilinear", align_corners=False)


def _conv(a: int, b: int) -> list[nn.Module]:
    return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]


def _steps(features: nn.Module) -> Iterator[nn.Module]:
    """The modules a picture passes one after the other: containers are opened, blocks are not."""
    if isinstance(features, nn.Sequential):
        for inner in features:
            yield from _steps(inner)
    else:
        yield features


@torch.no_grad()
def _levels(features: nn.Module) -> tuple[frozenset[int], tuple[int, ...]]:
    """Places of the steps after which the maps get smaller (and of the last step), and how many maps there are."""
    training = features.training
    features.eval()  # batch statistics must not learn from an empty picture
    x = torch.zeros(1, 3, PROBED, PROBED)
    shapes = []
    for step in _steps(features):
        x = step(x)
        shapes.append((x.shape[2], x.shape[1]))
    features.train(training)
    ends = [i for i, (size, _) in enumerate(shapes) if i + 1 == len(shapes) or shapes[i + 1][0] < size]
    return frozenset(ends), tuple(shapes[i][1] for i in ends)
