"""Version 2: two autoencoders with spatial transformers, one a photo, that must agree on their codes.

    branch: STN → conv5 3→10, dropout2d, max-pool, ReLU → STN → conv5 10→20, max-pool, sigmoid → code
            → STN → unpool → transposed conv 20→10, ReLU → STN → unpool → transposed conv 10→3, sigmoid

Everything is built once and registered, so everything is trained. Spatial transformers: Jaderberg et al. 2015
(arXiv 1506.02025). The transforms of the encoder carry boxes: what two photos show at one place of the code's frame is
the same place of the skin. The second transformer sees what the first one has straightened, so it corrects it.

    >>> network = BiAutoencoder(side=256)                                        # doctest: +SKIP
    >>> network(torch.rand(1, 3, 256, 256), torch.rand(1, 3, 256, 256)).codes[0].shape    # doctest: +SKIP
    torch.Size([1, 20, 61, 61])
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 5
SMALLEST = 84  # pixels a side: below it the localiser of the code has nothing left to see


class Localiser(nn.Module):
    """(N, C, S, S) → the affine transform (N, 2, 3) it should be sampled by; the identity before training."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 7), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU()
        )
        left = ((side - 6) // 2 - 4) // 2
        self.transform = nn.Sequential(nn.Linear(10 * left * left, 32), nn.ReLU(), nn.Linear(32, 6))
        last = self.transform[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(self.features(x).flatten(1)).view(-1, 2, 3)


class SpatialTransformer(nn.Module):
    """Samples its input where its localiser says. Returns (sampled (N, C, S, S), transform (N, 2, 3))."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.localiser = Localiser(channels, side)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        theta = self.localiser(x).float()
        grid = F.affine_grid(theta, list(x.shape), align_corners=False).to(x.dtype)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False), theta


class Branch(nn.Module):
    """One autoencoder for pictures (N, 3, side, side) in 0..1; `code_side` is the side of its code."""

    def __init__(self, side: int, dropout: float) -> None:
        super().__init__()
        middle = (side - KERNEL + 1) // 2
        self.code_side = (middle - KERNEL + 1) // 2
        self.see = SpatialTransformer(3, side)
        self.conv1 = nn.Conv2d(3, 10, KERNEL)
        self.dropout = nn.Dropout2d(dropout)
        self.look = SpatialTransformer(10, middle)
        self.conv2 = nn.Conv2d(10, 20, KERNEL)
        self.recall = SpatialTransformer(20, self.code_side)
        self.deconv2 = nn.ConvTranspose2d(20, 10, KERNEL)
        self.show = SpatialTransformer(10, middle)
        self.deconv1 = nn.ConvTranspose2d(10, 3, KERNEL)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[torch.Size]]:
        """(code, transforms (N, 2, 3, 3) of the first transformer and of both, indices of both poolings, sizes before
        them).
        """
        side = x.shape[-1]
        seen, first = self.see(x)
        wide = self.dropout(self.conv1(seen))
        pooled, index1 = F.max_pool2d(wide, 2, return_indices=True)
        looked, second = self.look(F.relu(pooled))
        deep = self.conv2(looked)
        small, index2 = F.max_pool2d(deep, 2, return_indices=True)
        # the map's frame is the picture's without the margin the convolution took
        inner = (side - KERNEL + 1) / side
        shrink = torch.diag(torch.tensor([inner, inner, 1.0], device=x.device)).expand(len(x), 3, 3)
        inside = _square(first) @ shrink
        transforms = torch.stack([inside, inside @ _square(second)], dim=1)
        return torch.sigmoid(small), transforms, [index1, index2], [wide.shape, deep.shape]

    def decode(self, code: Tensor, indices: list[Tensor], sizes: list[torch.Size]) -> Tensor:
        """The picture (N, 3, side, side) as logits of its values."""
        recalled = self.recall(code)[0]
        wide = F.relu(self.deconv2(F.max_unpool2d(recalled, indices[1], [2, 2], output_size=sizes[1])))
        shown = self.show(wide)[0]
        return self.deconv1(F.max_unpool2d(shown, indices[0], [2, 2], output_size=sizes[0]))


class Codes(NamedTuple):
    """Both codes (N, 20, K, K) in 0..1, both reconstructions as logits (N, 3, S, S), and the transforms (N, 2, 3, 3)
    from the frame the codes share to the photos, in -1..1: of the encoder's first transformer, and of both.
    """

    codes: tuple[Tensor, Tensor]
    logits: tuple[Tensor, Tensor]
    transforms: tuple[Tensor, Tensor]


class BiAutoencoder(nn.Module):
    """Two photos (N, 3, side, side) in 0..1 → `Codes`. Raises `ValueError` for a side below 84.

    With `shared`, both photos go through one branch: which visit comes first then makes no difference, and what the
    branch gets wrong about a face it gets wrong twice, which cancels.
    """

    def __init__(self, side: int = 256, dropout: float = 0.1, shared: bool = False) -> None:
        super().__init__()
        if side < SMALLEST:
            raise ValueError(f"the photos must have at least {SMALLEST} pixels a side, not {side}")
        self.side = side
        self.branches = nn.ModuleList(Branch(side, dropout) for _ in range(1 if shared else 2))
        self.second.load_state_dict(self.first.state_dict())  # two photos of one person: both start out alike

    @property
    def first(self) -> Branch:
        return cast(Branch, self.branches[0])

    @property
    def second(self) -> Branch:
        return cast(Branch, self.branches[-1])

    def forward(self, first: Tensor, second: Tensor) -> Codes:
        encoded = [branch.encode(x) for branch, x in ((self.first, first), (self.second, second))]
        logits = [
            branch.decode(code, indices, sizes)
            for branch, (code, _, indices, sizes) in zip((self.first, self.second), encoded, strict=True)
        ]
        a, b = encoded
        return Codes((a[0], b[0]), (logits[0], logits[1]), (a[1], b[1]))

    def freeze_features(self, frozen: bool) -> None:
        """Stop (or let) the encoders' convolutions learn; transformers and decoders always do."""
        for branch in (self.first, self.second):
            for part in (branch.conv1, branch.conv2):
                part.requires_grad_(not frozen)

    def registered(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 photos (N, side, side, 3) → (transform (N, 3, 3) from the first's to the second's coordinates, -1..1,
        how much the codes differ (N,)): what matching needs, without the decoders.
        """
        a, b = (
            branch.encode(x.permute(0, 3, 1, 2).float() / 255)[:2]
            for branch, x in ((self.first, first), (self.second, second))
        )
        return b[1][:, -1] @ inverse(a[1][:, -1]), 1 - likeness(a[0], b[0])


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """(N,): cosine of two codes (N, C, K, K), each channel's mean taken out: 1 for the same up to contrast.

    Without the mean two constant codes would be the most alike of all.
    """
    flat = [(x - x.mean(dim=(2, 3), keepdim=True)).flatten(1) for x in (a.float(), b.float())]
    return F.cosine_similarity(flat[0], flat[1], dim=1, eps=1e-4)


def _square(theta: Tensor) -> Tensor:
    last = torch.tensor([0.0, 0, 1], device=theta.device).expand(len(theta), 1, 3)
    return torch.cat([theta, last], dim=1)


def inverse(affine: Tensor) -> Tensor:
    """The inverse of affine maps (…, 3, 3), written out: ONNX has no operator for it."""
    a, b, c = affine[..., 0, :].unbind(-1)
    d, e, f = affine[..., 1, :].unbind(-1)
    scale = a * e - b * d
    scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [e / scale, -b / scale, (b * f - c * e) / scale, -d / scale, a / scale, (c * d - a * f) / scale]
    return torch.stack([*rows, zero, zero, one], dim=-1).view(affine.shape)
