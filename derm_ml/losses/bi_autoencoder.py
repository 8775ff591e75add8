"""The terms of the bi-autoencoder: each photo is shown again, both codes are alike, and a known map is found."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from derm_ml.losses.choices import CodeDistance
from derm_ml.nets.bi_autoencoder import Codes, code_cosine, inverse


def reconstruction_and_latent(said: Codes, first: Tensor, second: Tensor, latent: CodeDistance) -> tuple[Tensor, ...]:
    """(BCE of the first photo, BCE of the second, distance of the codes), scalars, unweighted.

    Photos (N, 3, S, S) in 0..1. The gradient of the third reaches both encoders: neither code is a fixed target.
    """
    shown = [
        F.binary_cross_entropy_with_logits(logits.float(), photo)
        for logits, photo in zip(said.logits, (first, second), strict=True)
    ]
    return shown[0], shown[1], code_distance(*said.codes, latent)


def code_distance(a: Tensor, b: Tensor, latent: CodeDistance) -> Tensor:
    """How much two codes (N, C, K, K) in 0..1 differ.

    `bce`: cross-entropy, both ways and averaged, as the original means it; it is least for equal codes of zeros and
    ones. `mse`: least for equal codes, constant ones too. `cosine`: 1 − `likeness`, which constant codes do not win.
    """
    a, b = a.float(), b.float()
    if latent == "mse":
        return F.mse_loss(a, b)
    if latent == "cosine":
        return (1 - code_cosine(a, b)).mean()
    logs = [torch.log(torch.stack([x, 1 - x]).clamp_min(1e-6)) for x in (a, b)]
    cross = [x * lg[0] + (1 - x) * lg[1] for x, lg in ((b, logs[0]), (a, logs[1]))]
    return -0.5 * (cross[0] + cross[1]).mean()


def between(said: Codes) -> Tensor:
    """The maps (N, L, 3, 3) from the first photos to the second ones, in -1..1, after one look, after two, …, after
    all.
    """
    first, second = said.transforms
    return second.float() @ inverse(first.float())


def misalignment(found: Tensor, truth: Tensor) -> Tensor:
    """(N, K): how far K affine maps (N, K, 3, 3) of each pair put the corners of the middle half from where the true
    homography (N, 3, 3) does, mean, in half sides of a photo.

    Of a pair whose map is not known (NaN) it is NaN, and without a gradient.
    """
    corners = torch.tensor([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]], device=truth.device).T
    known = truth.isfinite().all(dim=2).all(dim=1)
    wanted = torch.where(known[:, None, None], truth, torch.eye(3, device=truth.device)) @ corners
    wanted = wanted[:, :2] / wanted[:, 2:]
    apart = ((found @ corners)[:, :, :2] - wanted[:, None]).norm(dim=2).mean(dim=2)
    return torch.where(known[:, None], apart, torch.nan)
