"""Heatmaps laid over pictures."""

from __future__ import annotations

import cv2
import numpy as np


def heat(cam: np.ndarray, height: int, width: int) -> np.ndarray:
    """A Grad-CAM map (h, w) ≥ 0 → (height, width) float32 in 0..1; an all-zero map stays zero."""
    peak = float(cam.max())
    scaled = cam / peak if peak > 0 else cam
    return np.clip(cv2.resize(scaled.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def overlay(image: np.ndarray, cam: np.ndarray, strength: float = 0.55) -> np.ndarray:
    """RGB (H, W, 3) uint8 with the map (h, w) laid over it; where there is no heat the picture stays as it is."""
    warmth = heat(cam, *image.shape[:2])
    colours = cv2.applyColorMap((warmth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    alpha = (strength * np.sqrt(warmth))[..., None]
    return (image * (1 - alpha) + colours * alpha).astype(np.uint8)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """The picture with a white strip of text under it: what is shown, and that it is for research only."""
    size = max(0.35, image.shape[1] / 900)
    lines = text.split("\n")
    step = round(34 * size) + 4
    strip = np.full((step * len(lines) + 8, image.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(strip, line, (6, number * step - 4), cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([image, strip])
