"""Convolutional autoencoders: a picture through a narrow code and back.

`faithful` is the method as described: five convolutions, each halved by max-pooling, down to a code of 8 maps
(8 × 7 × 7 at 224 pixels), and five transposed convolutions back. Its kernels of 3 at stride 2 overlap unevenly, which
draws checkerboards (Odena, Dumoulin & Olah 2016, doi:10.23915/distill.00003).

`strong` is deeper, with about ten times the parameters, and its bottleneck is linear: one vector of stated size, no
activation. Going up it repeats pixels and convolves, so that every output pixel is covered alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from derm_ml.nets.choices import AutoencoderNetwork
from derm_ml.sentences import WrongValue

CODE_MAPS = 8
HALVINGS = 5  # 224 → 7


class Autoencoder(nn.Module):
    """Encoder and decoder of square pictures.

    encode: (N, S, S, 3) uint8 → code (N, D) float. decode: code → (N, 3, S, S) float in 0..1.
    forward is both in a row. S is a multiple of 32.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, code: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.code = encoder, decoder, code

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images.permute(0, 3, 1, 2).float() / 255)

    def decode(self, code: Tensor) -> Tensor:
        return self.decoder(code)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


def faithful_autoencoder(side: int = 224) -> Autoencoder:
    """Code of 8 maps a thirty-second of the side: 392 numbers at 224 pixels. Raises `ValueError` for other sides."""
    cells = _cells(side)
    widths = (3, 32, 64, 64, 32, CODE_MAPS)
    down: list[nn.Module] = []
    for a, b in pairwise(widths):
        down += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    up: list[nn.Module] = [nn.Unflatten(1, (CODE_MAPS, cells, cells))]
    for a, b in pairwise(widths[::-1]):
        up += [nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
    up[-1] = nn.Sigmoid()
    return Autoencoder(nn.Sequential(*down, nn.Flatten()), nn.Sequential(*up), CODE_MAPS * cells**2)


def strong_autoencoder(side: int = 224, code: int = 256, widths: Sequence[int] = (16, 32, 64, 96, 96)) -> Autoencoder:
    """Residual blocks, a linear bottleneck of `code` numbers, nearest-neighbour upsampling + convolution.

    Raises `ValueError` unless `side` is a multiple of 32.
    """
    cells = _cells(side)
    narrow = 16  # maps in front of the linear layer, which would else outweigh all convolutions
    down: list[nn.Module] = []
    for a, b in pairwise((3, *widths)):
        down += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), Residual(b)]
    down += [nn.Conv2d(widths[-1], narrow, 1), nn.Flatten(), nn.Linear(narrow * cells**2, code)]
    up: list[nn.Module] = [nn.Linear(code, narrow * cells**2), nn.Unflatten(1, (narrow, cells, cells))]
    up += [nn.Conv2d(narrow, widths[-1], 1), nn.ReLU()]
    for a, b in pairwise((*widths[::-1], 16)):
        up += [Residual(a), nn.Upsample(scale_factor=2, mode="nearest")]
        up += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    up += [nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid()]
    return Autoencoder(nn.Sequential(*down), nn.Sequential(*up), code)


class Residual(nn.Module):
    """x + two 3×3 convolutions of it, (N, C, h, w) → the same shape (He et al. 2016, pre-activation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def autoencoder(name: AutoencoderNetwork, side: int, code: int = 256) -> Autoencoder:
    """`faithful` (its code follows from `side`) or `strong`. Raises `WrongValue` for a side it cannot have."""
    return faithful_autoencoder(side) if name == "faithful" else strong_autoencoder(side, code)


def _cells(side: int) -> int:
    if side % 2**HALVINGS:
        raise WrongValue(f"an autoencoder halves the side five times: {side} is no multiple of {2**HALVINGS}")
    return side // 2**HALVINGS
