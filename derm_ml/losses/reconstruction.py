"""Losses between a picture and its reconstruction, both (N, 3, H, W) float in 0..1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from derm_ml.losses.choices import PixelLoss

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.C


def reconstruction_loss(found: Tensor, wanted: Tensor, pixel: PixelLoss = "mse", ssim_weight: float = 0.0) -> Tensor:
    """(1 - w) · pixel loss + w · (1 - SSIM), the mix of Zhao et al. 2017 (doi:10.1109/TCI.2016.2644865)."""
    loss = functional.mse_loss(found, wanted) if pixel == "mse" else functional.l1_loss(found, wanted)
    return (
        loss if not ssim_weight else (1 - ssim_weight) * loss + ssim_weight * (1 - structural_similarity(found, wanted))
    )


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM over pixels and channels (Wang et al. 2004), borders left out; 1 for equal pictures.

    In full precision, also where the network runs in less: its variances are small differences of large numbers.
    """
    with torch.autocast(a.device.type, enabled=False):
        return _similarity(a, b)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    channels = a.shape[1]
    offsets = torch.arange(WINDOW, device=a.device, dtype=a.dtype) - WINDOW // 2
    bell = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    bell = (bell / bell.sum()).expand(channels, 1, 1, -1)

    def blur(x: Tensor) -> Tensor:
        across = functional.conv2d(x, bell, groups=channels)
        return functional.conv2d(across, bell.transpose(2, 3), groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()
