"""Heatmaps laid over pictures."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np


def heat(cam: np.ndarray, height: int, width: int) -> np.ndarray:
    """A Grad-CAM map (h, w) ≥ 0 → (height, width) float32, 0 at its coldest and 1 at its hottest; an even map is 0."""
    low, high = float(cam.min()), float(cam.max())
    scaled = (cam - low) / (high - low) if high > low else np.zeros_like(cam)
    return np.clip(cv2.resize(scaled.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def overlay(image: np.ndarray, cam: np.ndarray, strength: float = 0.55) -> np.ndarray:
    """RGB (H, W, 3) uint8 with the map (h, w) laid over it; where there is no heat the picture stays as it is."""
    warmth = heat(cam, *image.shape[:2])
    colours = cv2.applyColorMap((warmth * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1].astype(np.float32)
    alpha = (strength * warmth)[..., None]
    return (image * (1 - alpha) + colours * alpha).astype(np.uint8)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """The picture with a white strip of text under it: what is shown, and that it is for research only.

    Long lines are wrapped to the width of the picture.
    """
    size = max(0.35, image.shape[1] / 900)
    letters = max(12, round(image.shape[1] / (14 * size)))
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, letters)]
    step = round(34 * size) + 4
    strip = np.full((step * len(lines) + 8, image.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(strip, line, (6, number * step - 4), cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([image, strip])
