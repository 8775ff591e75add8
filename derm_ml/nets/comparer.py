"""Lays two pictures of one place over each other: every place of one is compared with every place of the other.

    both pictures → features → how alike each place of one is to each of the other → which two are each other's best
    → `Comparer`: the two affine maps that, by least squares, bring all of these to meet half way
    → `Bender`: what is left of pictures that are laid together, as a smooth field

Only the features are learned: where two places are found alike is geometry, so what is learned on few faces holds for
others, and for skin without a face. Sources: correlation of all places, Rocco et al. 2017 (arXiv 1703.05593); mutual
softmax, Sun et al. 2021 (arXiv 2104.00680).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 16  # a side: 256 places, of 6 pixels each of a photo of 96; averaging them finds a tenth of that
SHARPEST = 12.0  # what a cosine is at most multiplied by: twice the square of its exponential is still a float
SPREADS = (0.5, 0.25)  # half sides, standard deviations over which a bend is averaged
UNSURE = 0.05  # places that say that nothing bends, among as many as are averaged
PRIOR = 1e-3  # of all agreement: what says that nothing has moved; it decides where nothing is alike


class PlaceMatcher(nn.Module):
    """The places of two pictures (N, C, S, S), and which of them show the same: what both kinds of look start from.

    Beyond `reach`, in half sides, places are less and less likely to be the same. `trust` is what share of what was
    found is believed: none before training.
    """

    places: Tensor  # (places, 3): x, y, 1
    here: Tensor  # (places, 4)
    there: Tensor  # (places, 4)

    def __init__(self, channels: int, side: int, reach: float, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, width // 2, 5, stride=3, padding=2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=max(1, round(side / 3 / CELLS)), padding=1),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.weight = nn.Conv2d(width, 1, 1)
        self.sharpness = nn.Parameter(torch.ones(1))
        self.trust = nn.Parameter(torch.zeros(1))
        with torch.no_grad():
            cells = self.features(torch.zeros(1, channels, side, side)).shape[-1]
        middles = (2 * torch.arange(cells) + 1) / cells - 1
        places = torch.stack([middles.repeat(cells), middles.repeat_interleave(cells)], dim=1)
        ones = torch.ones(len(places), 1)
        self.register_buffer("places", torch.cat([places, ones], dim=1), persistent=False)
        # the product of the rows of two places is minus half their squared distance in reaches
        half = (places / reach).square().sum(dim=1, keepdim=True) / 2
        self.register_buffer("here", torch.cat([places / reach, -half, ones], dim=1), persistent=False)
        self.register_buffer("there", torch.cat([places / reach, ones, -half], dim=1), persistent=False)

    def found(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """For each place of the first picture how likely it has a counterpart, times where that is: (N, places, 3),
        x, y and the likelihood alone; and the same for the places of the second. Each sums to one likelihood a picture.
        """
        p, n = self.places, first.shape[0]
        (a, heavy_a), (b, heavy_b) = self._described(first), self._described(second)
        sharp = SHARPEST * torch.sigmoid(self.sharpness)
        own = torch.cat([sharp * a, self.here.expand(n, -1, -1)], dim=2)
        other = torch.cat([b, self.there.expand(n, -1, -1)], dim=2)
        alike = torch.exp(own @ other.transpose(1, 2) - sharp)
        of_first, of_second = heavy_a / alike.sum(dim=2, keepdim=True), heavy_b / alike.sum(dim=1).unsqueeze(2)
        both = alike.square()
        from_first = of_first * (both @ (of_second * p))
        from_second = of_second * (both.transpose(1, 2) @ (of_first * p))
        agreed = from_second[..., 2:].sum(dim=1, keepdim=True).clamp_min(1e-12)
        return from_first / agreed, from_second / agreed

    def _described(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(directions (N, places, W), weights (N, places, 1))."""
        found = self.features(x)
        directions = F.normalize(found.flatten(2).float(), dim=1).transpose(1, 2)
        return directions, torch.sigmoid(self.weight(found)).flatten(2).transpose(1, 2).float()


class Comparer(PlaceMatcher):
    """Two pictures (N, C, S, S) → the affine maps (N, 3, 3) of -1..1 that each should be sampled by to meet the other.

    The identity before training.
    """

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        x, y, xy = self._moments(*self.found(first, second))
        middle = inverse3((x + xy + xy.transpose(1, 2) + y) / 4)
        still = torch.eye(3, device=x.device)
        to_first, to_second = ((x + xy) / 2) @ middle, ((xy.transpose(1, 2) + y) / 2) @ middle
        trust = 10 * self.trust
        return still + trust * (to_first - still), still + trust * (to_second - still)

    def _moments(self, from_first: Tensor, from_second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Second moments (N, 3, 3) of the places x of the first and y of the second that are each other's best, and of
        x with y; each pair of places counts by how likely it is, from either side.
        """
        p = self.places
        prior = PRIOR * p.T @ p / len(p)
        x = p.T @ (from_first[..., 2:] * p) + prior
        y = p.T @ (from_second[..., 2:] * p) + prior
        return x, y, p.T @ from_first + prior


class Bender(PlaceMatcher):
    """Two pictures (N, C, S, S) laid together → what bends one into the other: (N, 2, cells, cells) in -1..1.

    At a place u the first shows at u − d/2 what the second shows at u + d/2. What each place says is averaged with
    its neighbours, wide first, then narrow over what that leaves (twicing, Tukey 1977): a turned head and an
    expression are smooth. Swapping the pictures turns the sign. 0 before training.
    """

    kernels: Tensor  # (widths, places, places), rows sum to 1

    def __init__(self, channels: int, side: int, reach: float, width: int = 32) -> None:
        super().__init__(channels, side, reach, width)
        apart = torch.cdist(self.places[:, :2], self.places[:, :2]).square()
        near = torch.stack([torch.exp(-apart / (2 * spread**2)) for spread in SPREADS])
        self.register_buffer("kernels", near / near.sum(dim=2, keepdim=True), persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        there, back = self.found(first, second)
        field = (self._smooth(there) - self._smooth(back)) / 2
        cells = round(len(self.places) ** 0.5)
        return 10 * self.trust * field.transpose(1, 2).unflatten(2, (cells, cells))

    def _smooth(self, found: Tensor) -> Tensor:
        """Counterparts (N, places, 3) → shifts (N, places, 2)."""
        found = found * len(self.places)  # a place counts 1 on average
        weight, field = found[..., 2:], torch.zeros_like(found[..., :2])
        for kernel in self.kernels:
            left = found[..., :2] - weight * (self.places[:, :2] + field)
            field = field + kernel @ left / (kernel @ weight + UNSURE)
        return field


def carried(places: Tensor, first: Tensor, second: Tensor, bend: Tensor | None = None) -> Tensor:
    """Where places (L, 2) of the first photos lie in the second ones: (N, L, 2), all in -1..1.

    `first`, `second` (N, 3, 3): affine maps from the frame in which both are laid together; `bend` (N, 2, G, G): what
    they leave over there (`Bender`).
    """
    frame = inverse(first)
    at = places @ frame[:, :2, :2].transpose(1, 2) + frame[:, None, :2, 2]
    shift = torch.zeros_like(at)
    if bend is not None:
        for _ in range(2):  # at − d/2 is where the first shows it: d at the sum of both
            shift = _looked_up(bend, at + shift) / 2
    at = at + 2 * shift
    return at @ second[:, :2, :2].transpose(1, 2) + second[:, None, :2, 2]


def _looked_up(field: Tensor, at: Tensor) -> Tensor:
    """A field (N, 2, G, G) over -1..1 at places (N, L, 2): (N, L, 2); the edge beyond the edge."""
    found = F.grid_sample(field, at[:, :, None], padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def inverse(affine: Tensor) -> Tensor:
    """The inverse of affine maps (…, 3, 3), written out: ONNX has no operator for it."""
    a, b, c = affine[..., 0, :].unbind(-1)
    d, e, f = affine[..., 1, :].unbind(-1)
    scale = a * e - b * d
    scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [e / scale, -b / scale, (b * f - c * e) / scale, -d / scale, a / scale, (c * d - a * f) / scale]
    return torch.stack([*rows, zero, zero, one], dim=-1).view(affine.shape)


def inverse3(m: Tensor) -> Tensor:
    """The inverse of matrices (N, 3, 3), written out: ONNX has no operator for it."""
    rows = [torch.linalg.cross(m[:, (k + 1) % 3], m[:, (k + 2) % 3], dim=1) for k in range(3)]
    determinant = (m[:, 0] * rows[0]).sum(dim=1)
    return torch.stack(rows, dim=2) / determinant[:, None, None]
