"""PSNR and SSIM against their definitions: a wrong one would call a blurred lesion a good reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derm_ml.losses.reconstruction import reconstruction_loss, structural_similarity
from derm_ml.metrics.reconstruction import checkerboard_energy, psnr, ssim
from derm_ml.synthetic.lesions import draw_lesion

pytestmark = pytest.mark.slow  # imports torch


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    picture = draw_lesion("nevus", 3, 64).image
    noise = np.random.default_rng(0).normal(0, 12, picture.shape)
    return picture, np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_psnr_is_its_formula(pair):
    a, b = pair
    error = sum((int(x) - int(y)) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True)) / a.size
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / error))
    assert psnr(a, a) == np.inf


def test_ssim_is_its_formula_at_one_pixel(pair):
    """Wang et al. 2004, equation 13, with the window written out."""
    a, b = (x[20:31, 30:41].astype(float) for x in pair)
    offsets = np.arange(11) - 5
    w = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    w = w / w.sum()
    values = []
    for channel in range(3):
        x, y = a[..., channel], b[..., channel]
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy, both = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
        c1, c2 = 2.55**2, 7.65**2
        values.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert ssim(a.astype(np.uint8), b.astype(np.uint8)) == pytest.approx(np.mean(values), abs=1e-6)


def test_the_loss_minimises_the_metric(pair):
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].double() / 255 for p in pair)
    assert structural_similarity(x, y).item() == pytest.approx(ssim(*pair), abs=1e-6)
    assert reconstruction_loss(x, x, "l1", 0.5).item() == pytest.approx(0, abs=1e-9)
    assert reconstruction_loss(x, y, "l1", 0.5) > 0


def test_a_checkerboard_is_seen_and_a_photograph_is_not_one(pair):
    picture = pair[0][None].astype(float)
    rows, columns = np.indices(picture.shape[1:3])
    board = picture + 4 * ((rows + columns) % 2 * 2 - 1)[None, :, :, None] + 4 * (columns % 2)[None, :, :, None]
    assert checkerboard_energy(board) > 5 * checkerboard_energy(picture)
    assert checkerboard_energy(picture) < 3


def test_ssim_is_the_same_where_the_network_runs_in_mixed_precision(pair):
    """In bfloat16 the variances of an even picture come out negative and the figure is lost."""
    x, y = (torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 for p in pair)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = structural_similarity(x, y).item()
    assert mixed == pytest.approx(structural_similarity(x, y).item(), abs=1e-6)
