"""The Improved U-Net (Isensee et al. 2018, arXiv 1802.10508, section 2.3) for two-dimensional pictures.

    level   maps            context pathway              localisation pathway
    1       w    × S        conv3            ─ context ─▶ concat ─ conv3 2w ─────────────▶ head ─(+)─▶ logits
    2       2w   × S/2      conv3 stride 2   ─ context ─▶ concat ─ localise ─▶ head ─(+)─ ×2 ──┘
    3       4w   × S/4      conv3 stride 2   ─ context ─▶ concat ─ localise ─▶ head ─ ×2 ──┘
    4       8w   × S/8      conv3 stride 2   ─ context ─▶ concat ─ localise
    5       16w  × S/16     conv3 stride 2   ─ context ─▶

Example:
    >>> ImprovedUNet(width=16)(torch.zeros(1, 3, 128, 128)).shape
    torch.Size([1, 1, 128, 128])
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from derm_ml.sentences import WrongValue

LEVELS = 5
SLOPE = 1e-2  # of the leaky ReLU, as in the paper


class ConvNormAct(nn.Sequential):
    """Convolution (no bias: the norm has one) → instance norm → leaky ReLU: (N, a, H, W) → (N, b, H/stride, …)."""

    def __init__(self, a: int, b: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(a, b, kernel, stride, padding=kernel // 2, bias=False),
            nn.InstanceNorm2d(b, affine=True),
            nn.LeakyReLU(SLOPE),
        )


class Context(nn.Module):
    """Two 3×3 convolutions with dropout between, summed with their input: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels)
        self.dropout = nn.Dropout2d(dropout)  # whole maps: neighbouring pixels of one map are not independent
        self.second = ConvNormAct(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.dropout(self.first(x)))


class Upsampling(nn.Module):
    """Nearest neighbour ×2, then a 3×3 convolution that halves the maps: (N, 2C, H, W) → (N, C, 2H, 2W).

    Instead of a transposed convolution, which draws checkerboards.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Localisation(nn.Sequential):
    """A 3×3 convolution, then a 1×1 convolution that halves the maps: (N, 2C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(ConvNormAct(2 * channels, 2 * channels), ConvNormAct(2 * channels, channels, kernel=1))


class ImprovedUNet(nn.Module):
    """(N, 3, H, W) float → logits (N, 1, H, W). H and W are multiples of 16; `width` = maps at full resolution.

    The paper's width is 16. Raises `ValueError` for another size of picture.
    """

    def __init__(self, width: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.entry = ConvNormAct(3, width)
        self.down = nn.ModuleList(ConvNormAct(a, b, stride=2) for a, b in pairwise(widths))
        self.context = nn.ModuleList(Context(w, dropout) for w in widths)
        self.up = nn.ModuleList(Upsampling(w) for w in widths[:-1])
        self.localise = nn.ModuleList(Localisation(w) for w in widths[1:-1])  # levels 2, 3, 4
        self.last = ConvNormAct(2 * width, 2 * width)  # at level 1 nothing follows that wants fewer maps
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in (2 * width, widths[1], widths[2]))  # levels 1, 2, 3

    def encode(self, x: Tensor) -> list[Tensor]:
        """The context pathway: level k = 1 … 5 gives (N, width · 2^(k-1), H / 2^(k-1), W / 2^(k-1))."""
        if x.shape[2] % 2 ** (LEVELS - 1) or x.shape[3] % 2 ** (LEVELS - 1):
            raise WrongValue(f"the sides must be multiples of {2 ** (LEVELS - 1)}, got {tuple(x.shape[2:])}")
        x = x.contiguous()  # instance normalisation is slow on channels_last
        levels = [self.context[0](self.entry(x))]
        for down, context in zip(self.down, list(self.context)[1:], strict=True):
            levels.append(context(down(levels[-1])))
        return levels

    def decode(self, levels: list[Tensor]) -> list[Tensor]:
        """The localisation pathway: maps of levels 1, 2, 3 with 2·width, 2·width, 4·width channels."""
        *skips, x = levels
        found: list[Tensor] = []
        for level in reversed(range(LEVELS - 1)):
            x = torch.cat([self.up[level](x), skips[level]], dim=1)
            x = self.localise[level - 1](x) if level else self.last(x)
            found.insert(0, x)
        return found[:3]

    def forward(self, x: Tensor) -> Tensor:
        return self.with_embedding(x)[0]

    def with_embedding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the mean of the deepest maps of the context pathway (N, 16 · width)."""
        levels = self.encode(x)
        one, two, three = (head(maps) for head, maps in zip(self.heads, self.decode(levels), strict=True))
        return one + _doubled(two + _doubled(three)), levels[-1].mean(dim=(2, 3))


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
