"""The terms of the bi-autoencoder: each photo is shown again, both codes are alike, and a known map is found."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from derm_ml.losses.choices import CodeDistance
from derm_ml.nets.bi_autoencoder import Codes, code_cosine
from derm_ml.nets.comparer import carried


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


def landed(said: Codes, places: Tensor) -> Tensor:
    """Where places (P, 2) of the first photos are put in the second ones (N, K, P, 2), in -1..1: by the map after one
    look, after two, …, after all, and, where the network bends, by the last one bent.
    """
    first, second = (maps.float() for maps in said.transforms)
    found = [carried(places, first[:, k], second[:, k]) for k in range(first.shape[1])]
    if said.bend is not None:  # the maps are given: the bend learns what they leave over, not to be helped by them
        found.append(carried(places, first[:, -1].detach(), second[:, -1].detach(), said.bend))
    return torch.stack(found, dim=1)


def misalignment(found: Tensor, truth: Tensor) -> Tensor:
    """(N, K): how far K maps put places (N, K, P, 2) from where they lie (N, P, 2), mean, in half sides of a photo.

    Places of which that is not known (NaN) do not count; of a pair without any it is NaN, and without a gradient.
    """
    known = truth.isfinite().all(dim=2)
    apart = (found - truth.nan_to_num()[:, None]).norm(dim=3)
    mean = torch.where(known[:, None], apart, 0.0).sum(dim=2) / known.sum(dim=1).clamp_min(1)[:, None]
    return torch.where(known.any(dim=1)[:, None], mean, torch.nan)
