"""Draws dermoscopy-like pictures with exact truth: the class, the outline, where the hairs are.

The classes differ as their textbook descriptions do, not in size, place or background, so that a network has to
look at the lesion, and they overlap, so that it is not always right: a *nevus* is round, even in colour, with a soft
edge; a *melanoma* is asymmetric, has a ragged edge and several colours; a *keratosis* is sharply cut, greyish, with
pale round cysts and fissures.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CLASSES = ("melanoma", "nevus", "seborrheic_keratosis")


@dataclass(frozen=True, slots=True)
class DrawnLesion:
    """image (H, W, 3) uint8 RGB; mask (H, W) uint8 of 0 and 255, exact; the class that was drawn."""

    image: np.ndarray
    mask: np.ndarray
    label: str


def draw_lesion(label: str, seed: int, side: int = 128, width: int | None = None) -> DrawnLesion:
    """Draw one lesion of a class on skin, `side` pixels high and `width` (default `side`) wide.

    The same arguments give the same picture. Raises `ValueError` for an unknown class.
    """
    if label not in CLASSES:
        raise ValueError(f"cannot draw '{label}'; known: {', '.join(CLASSES)}")
    rng = np.random.default_rng([seed, CLASSES.index(label)])
    height, width = side, width or side
    outline = _outline(rng, label, height, width)
    soft = {"nevus": (0.012, 0.05), "melanoma": (0.01, 0.03), "seborrheic_keratosis": (0.006, 0.02)}[label]
    edge = rng.uniform(*soft) * side
    alpha = cv2.GaussianBlur(outline.astype(np.float32), (0, 0), max(0.6, edge))[..., None]
    skin = _skin(rng, height, width)
    pigment = min(1.0, skin.mean() / 185)  # a lesion is darker than the skin it lies on, dark skin too
    picture = skin * (1 - alpha) + _surface(rng, label, outline) * pigment * alpha
    picture = _hairs(rng, picture)
    picture = picture * _vignette(rng, height, width) * rng.uniform(0.85, 1.1) * rng.uniform(0.94, 1.06, 3)
    picture += rng.normal(0, 2.5, picture.shape)
    return DrawnLesion(np.clip(picture, 0, 255).astype(np.uint8), outline.astype(np.uint8) * 255, label)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, grain: float) -> np.ndarray:
    """(H, W) float in about -1..1 whose spots are `grain` pixels across."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), max(0.5, grain))
    return noise / (np.abs(noise).max() + 1e-9)


def _outline(rng: np.random.Generator, label: str, height: int, width: int) -> np.ndarray:
    """(H, W) bool: a closed curve around a random centre, r(φ) = r0 · (1 + Σ a_k cos(kφ + φ_k))."""
    radius = rng.uniform(0.2, 0.32) * height
    rough = rng.uniform(*{"nevus": (0.02, 0.09), "melanoma": (0.06, 0.18), "seborrheic_keratosis": (0.03, 0.09)}[label])
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    shape = np.ones_like(angles)
    for k in range(2, 12):
        decay = 1.0 if label == "melanoma" else 2.5 / k  # a ragged edge has energy at high frequencies too
        shape += rough * decay * rng.normal() / np.sqrt(k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
    stretch = rng.uniform(0.75, 1.0)
    turn = rng.uniform(0, np.pi)
    x, y = radius * shape * np.cos(angles), radius * shape * np.sin(angles) * stretch
    centre = np.array([width, height]) / 2 + rng.uniform(-0.12, 0.12, 2) * height
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1) + centre
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1)
    return canvas.astype(bool)


def _skin(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    tones = np.array([[236, 198, 180], [224, 178, 150], [198, 148, 118], [150, 104, 80]], float)
    tone = tones[rng.integers(len(tones))] + rng.normal(0, 6, 3)
    texture = 7 * _smooth_noise(rng, height, width, 0.02 * height) + 5 * _smooth_noise(rng, height, width, 0.2 * height)
    return tone + texture[..., None]


def _surface(rng: np.random.Generator, label: str, outline: np.ndarray) -> np.ndarray:
    height, width = outline.shape
    spots = _smooth_noise(rng, height, width, 0.05 * height)[..., None]
    if label == "nevus":
        base = np.array([128, 84, 58]) + rng.normal(0, 10, 3)
        net = np.sin(np.indices((height, width)).sum(0) * rng.uniform(0.7, 1.0))[..., None]
        return base + 8 * spots + 5 * net
    if label == "melanoma":
        colours = np.array([[52, 34, 30], [104, 60, 42], [92, 98, 118], [150, 70, 62]], float)
        surface = np.tile(colours[0], (height, width, 1))
        for colour in rng.permutation(colours[1:])[: rng.integers(1, 4)]:
            patch = _smooth_noise(rng, height, width, rng.uniform(0.06, 0.12) * height)[..., None]
            surface = np.where(patch > rng.uniform(0.1, 0.35), colour, surface)
        return cv2.GaussianBlur(surface, (0, 0), 0.012 * height) + 10 * spots
    base = np.array([140, 116, 96]) + rng.normal(0, 8, 3)
    surface = base + 14 * spots
    inside = np.argwhere(outline)
    for y, x in inside[rng.integers(0, len(inside), rng.integers(2, 15))]:  # milia-like cysts
        cv2.circle(surface, (int(x), int(y)), int(rng.integers(1, max(2, height // 40) + 1)), (226, 214, 190), -1)
    for y, x in inside[rng.integers(0, len(inside), rng.integers(0, 8))]:  # fissures
        end = (int(x + rng.normal(0, 0.08 * height)), int(y + rng.normal(0, 0.08 * height)))
        cv2.line(surface, (int(x), int(y)), end, (84, 64, 52), max(1, height // 100))
    return surface


def _hairs(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    picture = np.ascontiguousarray(picture)
    for _ in range(rng.integers(0, 6)):
        start, end = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        bend = (start + end) / 2 + rng.normal(0, 0.1 * height, 2)
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        cv2.polylines(
            picture, [np.round(curve).astype(np.int32)], False, (58, 44, 40), max(1, height // 128), cv2.LINE_AA
        )
    return picture


def _vignette(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.indices((height, width), dtype=float)
    distance = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    return (1 - rng.uniform(0, 0.5) * np.clip(distance - 0.4, 0, None) ** 1.5 * 3)[..., None]
