"""Heatmaps and masks laid over pictures."""

from __future__ import annotations

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
    colours = cv2.applyColorMap((warmth * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].astype(np.float32)
    alpha = (strength * warmth)[..., None]
    return (image * (1 - alpha) + colours * alpha).astype(np.uint8)


# the palette of the figures: told apart by people who do not see red and green alike
FOUND, TOO_MUCH, MISSED, OUTLINE = (0, 158, 115), (213, 94, 0), (0, 114, 178), (255, 232, 0)


def outlined(image: np.ndarray, mask: np.ndarray, strength: float = 0.18) -> np.ndarray:
    """RGB (H, W, 3) uint8 with a mask (H, W): its edge as a line, its inside tinted."""
    picture = _tinted(image, mask > 0, OUTLINE, strength)
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, OUTLINE, max(1, round(max(image.shape[:2]) / 250)), cv2.LINE_AA)
    return picture


def compared(image: np.ndarray, said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) uint8 with two masks (H, W): green where both are, orange where too much, blue where missed."""
    a, b = said > 0, truth > 0
    picture = _tinted(image, a & b, FOUND, 0.25)
    picture = _tinted(picture, a & ~b, TOO_MUCH, 0.6)
    return _tinted(picture, ~a & b, MISSED, 0.6)


def _tinted(image: np.ndarray, where: np.ndarray, colour: tuple[int, int, int], strength: float) -> np.ndarray:
    picture = image.copy()
    picture[where] = (image[where] * (1 - strength) + np.array(colour) * strength).astype(np.uint8)
    return picture
