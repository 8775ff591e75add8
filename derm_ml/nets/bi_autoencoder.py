"""Version 2: two autoencoders with spatial transformers, one a photo, that must agree on their codes.

    branch: STN → conv5 3→10, dropout2d, max-pool, ReLU → STN → conv5 10→20, max-pool, sigmoid → code
            → STN → unpool → transposed conv 20→10, ReLU → STN → unpool → transposed conv 10→3, sigmoid

Everything is built once and registered, so everything is trained. Spatial transformers: Jaderberg et al. 2015
(arXiv 1506.02025). The transforms of the encoder carry boxes: what two photos show at one place of the code's frame is
the same place of the skin. The second transformer sees what the first one has straightened, so it corrects it.

In the original each transformer sees one photo and would have to know where a face belongs. With `looks`, those of the
encoders compare the two photos (nets/comparer.py), several times, each time what the looks before have laid together.

    >>> network = BiAutoencoder(side=256)
    >>> network(torch.rand(1, 3, 256, 256), torch.rand(1, 3, 256, 256)).codes[0].shape
    torch.Size([1, 20, 61, 61])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from derm_ml.nets.comparer import Bender, Comparer, carried, inverse
from derm_ml.sentences import WrongValue

KERNEL = 5
SMALLEST = 84  # pixels a side: below it the localiser of the code has nothing left to see
REACH = (4.0, 0.5)  # half sides, of the first look, which may turn the photo, and of the later ones, which correct
BEND_REACH = 0.25  # half sides: what tilt and expression leave of two faces
LATTICE = 33  # places a side at which an exported graph says where they lie
Maps = tuple[Tensor, Tensor]  # (N, 3, 3) of either photo


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
    """Samples its input (N, C, S, S) where its localiser says."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.localiser = Localiser(channels, side)

    def forward(self, x: Tensor) -> Tensor:
        return sampled(x, homogeneous(self.localiser(x)))


class Branch(nn.Module):
    """One autoencoder for pictures (N, 3, side, side) in 0..1; `code_side` is the side of its code.

    `see` and `look` are the encoder's transformers, None where the two photos are compared instead.
    """

    def __init__(self, side: int, dropout: float, alone: bool) -> None:
        super().__init__()
        middle = (side - KERNEL + 1) // 2
        self.code_side = (middle - KERNEL + 1) // 2
        self.see = SpatialTransformer(3, side) if alone else None
        self.conv1 = nn.Conv2d(3, 10, KERNEL)
        self.dropout = nn.Dropout2d(dropout)
        self.look = SpatialTransformer(10, middle) if alone else None
        self.conv2 = nn.Conv2d(10, 20, KERNEL)
        self.recall = SpatialTransformer(20, self.code_side)
        self.deconv2 = nn.ConvTranspose2d(20, 10, KERNEL)
        self.show = SpatialTransformer(10, middle)
        self.deconv1 = nn.ConvTranspose2d(10, 3, KERNEL)

    def decode(self, code: Tensor, indices: list[Tensor], sizes: list[torch.Size]) -> Tensor:
        """The picture (N, 3, side, side) as logits of its values."""
        recalled = self.recall(code)
        wide = F.relu(self.deconv2(F.max_unpool2d(recalled, indices[1], [2, 2], output_size=sizes[1])))
        shown = self.show(wide)
        return self.deconv1(F.max_unpool2d(shown, indices[0], [2, 2], output_size=sizes[0]))


class Codes(NamedTuple):
    """Both codes (N, 20, K, K) in 0..1, both reconstructions as logits (N, 3, S, S), and the transforms (N, L, 3, 3)
    from the frame the codes share to the photos, in -1..1: after one look, after two, …, after all. `bend`
    (N, 2, G, G), where the network bends, is what the last ones leave over (`comparer.carried`).
    """

    codes: tuple[Tensor, Tensor]
    logits: tuple[Tensor, Tensor]
    transforms: tuple[Tensor, Tensor]
    bend: Tensor | None = None


class _Encoded(NamedTuple):
    code: Tensor
    transforms: Tensor  # (N, L, 3, 3)
    indices: list[Tensor]  # of both poolings
    sizes: list[torch.Size]  # before them


class BiAutoencoder(nn.Module):
    """Two photos (N, 3, side, side) in 0..1 → `Codes`. Raises `ValueError` for a side below 84.

    With `shared`, both photos go through one branch: which visit comes first then makes no difference, and what the
    branch gets wrong about a face it gets wrong twice, which cancels. With `looks`, the photos are compared so often
    before the first convolution and once after it; with 0 each transformer sees one photo alone, as in the original.
    With `bends`, what the affine maps leave over is found, too.
    """

    def __init__(
        self, side: int = 256, dropout: float = 0.1, shared: bool = False, looks: int = 0, bends: bool = False
    ) -> None:
        super().__init__()
        if side < SMALLEST:
            raise WrongValue(f"the photos must have at least {SMALLEST} pixels a side, not {side}")
        self.side = side
        self.branches = nn.ModuleList(Branch(side, dropout, not looks) for _ in range(1 if shared else 2))
        self.second.load_state_dict(self.first.state_dict())  # two photos of one person: both start out alike
        self.photo_looks = nn.ModuleList(Comparer(3, side, REACH[min(k, len(REACH) - 1)]) for k in range(looks))
        self.code_look = Comparer(10, (side - KERNEL + 1) // 2, REACH[-1]) if looks else None
        self.bender = Bender(3, side, BEND_REACH) if bends else None

    @property
    def first(self) -> Branch:
        return cast(Branch, self.branches[0])

    @property
    def second(self) -> Branch:
        return cast(Branch, self.branches[-1])

    def forward(self, first: Tensor, second: Tensor) -> Codes:
        a, b = self.encode(first, second)
        logits = [
            branch.decode(encoded.code, encoded.indices, encoded.sizes)
            for branch, encoded in ((self.first, a), (self.second, b))
        ]
        return Codes(
            (a.code, b.code), (logits[0], logits[1]), (a.transforms, b.transforms), self._bend(first, second, a, b)
        )

    def encode(self, first: Tensor, second: Tensor) -> tuple[_Encoded, _Encoded]:
        """Both photos encoded, each sampled so that both show a place of the skin at one place."""
        branches, photos = (self.first, self.second), (first, second)
        still = torch.eye(3, device=first.device).expand(first.shape[0], 3, 3)
        now, trail = (still, still), []
        for look in self.photo_looks or [_each([branch.see for branch in branches])]:
            # what a look sees is given: it learns to correct the looks before it, not to be helped by them
            seen = [sampled(x, at.detach()) for x, at in zip(photos, now, strict=True)] if trail else photos
            now = _composed(now, look(*seen))
            trail.append(now)
        seen = [sampled(x, at) for x, at in zip(photos, now, strict=True)]
        wide = [branch.dropout(branch.conv1(x)) for branch, x in zip(branches, seen, strict=True)]
        pooled, index1 = zip(*(F.max_pool2d(x, 2, return_indices=True) for x in wide), strict=True)
        middle = [F.relu(x) for x in pooled]
        steps = (self.code_look or _each([branch.look for branch in branches]))(*middle)
        looked = [sampled(x, step) for x, step in zip(middle, steps, strict=True)]
        deep = [branch.conv2(x) for branch, x in zip(branches, looked, strict=True)]
        small, index2 = zip(*(F.max_pool2d(x, 2, return_indices=True) for x in deep), strict=True)
        # the map's frame is the picture's without the margin the convolution took
        inner = (self.side - KERNEL + 1) / self.side
        shrink = torch.diag(torch.tensor([inner, inner, 1.0], device=first.device)).expand_as(still)
        trail = [_composed(at, (shrink, shrink)) for at in trail]
        trail.append(_composed(trail[-1], steps))
        a, b = (
            _Encoded(
                torch.sigmoid(small[k]),
                torch.stack([at[k] for at in trail], dim=1),
                [index1[k], index2[k]],
                [wide[k].shape, deep[k].shape],
            )
            for k in range(2)
        )
        return a, b

    def registered(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """uint8 photos (N, side, side, 3) → (transform (N, 3, 3) from the first's to the second's coordinates, -1..1,
        how much the codes differ (N,)): what matching needs, without the decoders. With `bends` also where a lattice
        of places of the first, from edge to edge, lies in the second (N, LATTICE, LATTICE, 2).
        """
        first, second = (x.permute(0, 3, 1, 2).float() / 255 for x in (first, second))
        a, b = self.encode(first, second)
        now = a.transforms[:, -1], b.transforms[:, -1]
        said = now[1] @ inverse(now[0]), 1 - code_cosine(a.code, b.code)
        bend = self._bend(first, second, a, b)
        if bend is None:
            return said
        line = torch.linspace(-1, 1, LATTICE, device=first.device)
        lattice = torch.stack([line.repeat(LATTICE), line.repeat_interleave(LATTICE)], dim=1)
        return *said, carried(lattice, *now, bend).unflatten(1, (LATTICE, LATTICE))

    def _bend(self, first: Tensor, second: Tensor, a: _Encoded, b: _Encoded) -> Tensor | None:
        """What the affine maps leave over, of photos laid together by them; they are given, as to every look."""
        if self.bender is None:
            return None
        laid = [sampled(x, found.transforms[:, -1].detach()) for x, found in ((first, a), (second, b))]
        return self.bender(*laid)


def _each(transformers: Sequence[SpatialTransformer | None]) -> Callable[[Tensor, Tensor], Maps]:
    """A look of the original's: each transformer sees one picture alone."""
    localisers = [t.localiser for t in transformers if t]

    def look(first: Tensor, second: Tensor) -> Maps:
        a, b = (homogeneous(localiser(x)) for localiser, x in zip(localisers, (first, second), strict=True))
        return a, b

    return look


def _composed(before: Maps, then: Maps) -> Maps:
    return before[0] @ then[0], before[1] @ then[1]


def code_cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N,): cosine of two codes (N, C, K, K), each channel's mean taken out: 1 for the same up to contrast.

    Without the mean two constant codes would be the most alike of all.
    """
    flat = [(x - x.mean(dim=(2, 3), keepdim=True)).flatten(1) for x in (a.float(), b.float())]
    return F.cosine_similarity(flat[0], flat[1], dim=1, eps=1e-4)


def sampled(x: Tensor, transform: Tensor) -> Tensor:
    """Pictures (N, C, S, S) seen through maps (N, 3, 3): what they show at the map of a place is shown at the place."""
    grid = F.affine_grid(transform[:, :2].float(), list(x.shape), align_corners=False).to(x.dtype)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def homogeneous(theta: Tensor) -> Tensor:
    last = torch.tensor([0.0, 0, 1], device=theta.device).expand(theta.shape[0], 1, 3)
    return torch.cat([theta, last], dim=1)
