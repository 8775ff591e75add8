"""Lays two pictures of one place over each other: every place of one is compared with every place of the other.

    both pictures → features → how alike each place of one is to each of the other → which two are each other's best
    → the two affine maps that, by least squares, bring all of these to meet half way

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
PRIOR = 1e-3  # of all agreement: what says that nothing has moved; it decides where nothing is alike


class Comparer(nn.Module):
    """Two pictures (N, C, S, S) → the affine maps (N, 3, 3) of -1..1 that each should be sampled by to meet the other.

    The identity before training: `trust` is what share of what was found is believed. Beyond `reach`, in half sides,
    places are less and less likely to be the same.
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

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        x, y, xy = self._moments(*self._described(first), *self._described(second))
        middle = inverse3((x + xy + xy.transpose(1, 2) + y) / 4)
        still = torch.eye(3, device=x.device)
        to_first, to_second = ((x + xy) / 2) @ middle, ((xy.transpose(1, 2) + y) / 2) @ middle
        trust = 10 * self.trust
        return still + trust * (to_first - still), still + trust * (to_second - still)

    def _described(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(directions (N, places, W), weights (N, places, 1))."""
        found = self.features(x)
        directions = F.normalize(found.flatten(2).float(), dim=1).transpose(1, 2)
        return directions, torch.sigmoid(self.weight(found)).flatten(2).transpose(1, 2).float()

    def _moments(self, a: Tensor, heavy_a: Tensor, b: Tensor, heavy_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Second moments (N, 3, 3) of the places x of the first and y of the second that are each other's best, and of
        x with y; each pair of places counts by how likely it is, from either side.
        """
        p, n = self.places, a.shape[0]
        sharp = SHARPEST * torch.sigmoid(self.sharpness)
        own = torch.cat([sharp * a, self.here.expand(n, -1, -1)], dim=2)
        other = torch.cat([b, self.there.expand(n, -1, -1)], dim=2)
        alike = torch.exp(own @ other.transpose(1, 2) - sharp)
        of_first, of_second = heavy_a / alike.sum(dim=2, keepdim=True), heavy_b / alike.sum(dim=1).unsqueeze(2)
        both = alike.square()
        from_first = of_first * (both @ (of_second * p))  # (N, places, 3)
        from_second = of_second * (both.transpose(1, 2) @ of_first)  # (N, places, 1)
        agreed = from_second.sum(dim=1, keepdim=True).clamp_min(1e-12)
        prior = PRIOR * p.T @ p / len(p)
        x = p.T @ (from_first[..., 2:] * p) / agreed + prior
        y = p.T @ (from_second * p) / agreed + prior
        return x, y, p.T @ from_first / agreed + prior


def inverse3(m: Tensor) -> Tensor:
    """The inverse of matrices (N, 3, 3), written out: ONNX has no operator for it."""
    rows = [torch.linalg.cross(m[:, (k + 1) % 3], m[:, (k + 2) % 3], dim=1) for k in range(3)]
    determinant = (m[:, 0] * rows[0]).sum(dim=1)
    return torch.stack(rows, dim=2) / determinant[:, None, None]
