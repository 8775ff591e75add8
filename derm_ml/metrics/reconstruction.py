"""How near a reconstruction is to its picture, and whether the decoder draws checkerboards. All on RGB uint8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.C


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures (H, W, 3) uint8 in dB; infinite for equal ones."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two pictures (H, W, 3) uint8, mean over channels and pixels away from the border.

    In -1..1, 1 for equal pictures. Source: Wang, Bovik, Sheikh & Simoncelli 2004, doi:10.1109/TIP.2003.819861.
    """
    edge = WINDOW // 2
    x, y = a.astype(np.float64), b.astype(np.float64)

    def blur(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)[edge:-edge, edge:-edge]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, both = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(found.mean())


def checkerboard_energy(images: np.ndarray, strides: Sequence[int] = (2, 4, 8)) -> float:
    """How far the spectrum of (N, H, W, 3) pictures sticks out at the stride frequencies: 1 is not at all.

    A decoder that doubles its maps with unevenly overlapping kernels repeats a pattern every 2 pixels, and every 4 and
    8 from the stages before. The power there (both axes, frequencies 1/2, 1/4, 1/8 and their multiples) is divided by
    the median power of the frequencies beside it, then averaged over the strides. The mean picture is taken out, a
    Hann window keeps the border from leaking. `H` and `W` are multiples of 8.
    """
    grey = images.astype(np.float64).mean(axis=3)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    height, width = grey.shape[1:]
    grey *= np.hanning(height)[:, None] * np.hanning(width)
    power = (np.abs(np.fft.fft2(grey)) ** 2).mean(axis=0)
    rows, columns = power.sum(axis=1), power.sum(axis=0)
    excess = [_peak(line, len(line) // stride) for stride in strides for line in (rows, columns)]
    return float(np.mean(excess))


def _peak(line: np.ndarray, place: int, beside: int = 6) -> float:
    """Power at `place` (3 bins: a window spreads a line over so many) over the median of `beside` bins each side."""
    around = np.arange(place - beside, place + beside + 1) % len(line)
    near = np.abs(np.arange(-beside, beside + 1)) <= 1
    return float(line[around[near]].mean() / (np.median(line[around[~near]]) + 1e-12))
