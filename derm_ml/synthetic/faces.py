"""Draws a face with skin of its own: enough for registration to work on, and no patient needed.

photo = draw_face(seed=3)                      # RGB (256, 224, 3) uint8, no conditions on it yet
"""

from __future__ import annotations

import cv2
import numpy as np

SKINS = ((236, 200, 174), (214, 170, 138), (188, 138, 104), (146, 100, 74))


def draw_face(seed: int, height: int = 256, width: int = 224) -> np.ndarray:
    """One person's face; the same seed gives the same bytes. Pores, freckles and features differ from seed to seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    wall = rng.uniform((50, 80, 100), (110, 150, 170)) + _grain(rng, (height, width), 24)[..., None] * 14
    skin = np.array(SKINS[int(rng.integers(len(SKINS)))], float) + rng.normal(0, 6, 3)
    broad, long = rng.uniform(0.56, 0.68), rng.uniform(0.74, 0.84)
    away = (columns / broad) ** 2 + ((rows - 0.02) / long) ** 2
    grains = [_grain(rng, (height, width), size) * weight for size, weight in ((1.2, 4), (2.5, 5), (6, 4))]
    pores = np.sum(grains, axis=0)
    shade = 1.06 - 0.30 * np.clip(away, 0, 1) ** 2 + 0.10 * columns * rng.uniform(-1, 1)
    face = skin * shade[..., None] + pores[..., None]
    for _ in range(int(rng.integers(25, 60))):  # freckles: what tells this skin from another
        x, y = rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.65)
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / rng.uniform(0.006, 0.016) ** 2)
        face -= spot[..., None] * np.array([18, 26, 24]) * rng.uniform(0.4, 1.1)
    hair = (
        np.array(rng.uniform(15, 90)) * np.array([1.0, 0.8, 0.65]) + _grain(rng, (height, width), 1.5)[..., None] * 12
    )
    head = (columns / (broad * 1.16)) ** 2 + ((rows + 0.10) / (long * 1.12)) ** 2
    picture = np.where((head < 1)[..., None], hair, wall)
    line = -0.62 + 0.10 * np.cos(3 * columns + rng.uniform(-1, 1))
    picture = np.where(((away < 1) & (rows > line))[..., None], face, picture)
    picture = np.ascontiguousarray(np.clip(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.7), 0, 255))
    _features(picture, skin, rng, broad)
    return np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)


def _features(picture: np.ndarray, skin: np.ndarray, rng: np.random.Generator, broad: float) -> None:
    """Brows, eyes, nose and mouth, drawn in place."""
    height, width = picture.shape[:2]

    def at(x: float, y: float) -> tuple[int, int]:
        return round((x + 1) / 2 * width), round((y + 1) / 2 * height)

    dark = tuple(float(v) for v in skin * 0.30)
    apart, level = rng.uniform(0.23, 0.28), rng.uniform(-0.20, -0.14)
    iris = tuple(float(v) for v in rng.uniform(20, 110, 3))
    tall = round(rng.uniform(0.035, 0.055) * height / 2)
    for side in (-1, 1):
        x = side * apart
        cv2.ellipse(
            picture,
            at(x, level - 0.14),
            (round(0.14 * width / 2), round(0.05 * height / 2)),
            0,
            190,
            350,
            dark,
            4,
            cv2.LINE_AA,
        )
        cv2.ellipse(picture, at(x, level), (round(0.12 * width / 2), tall), 0, 0, 360, (238, 236, 232), -1, cv2.LINE_AA)
        cv2.circle(picture, at(x, level), tall, iris, -1, cv2.LINE_AA)
        cv2.circle(picture, at(x, level), max(1, tall // 2), (12, 12, 12), -1, cv2.LINE_AA)
        cv2.ellipse(picture, at(x, level), (round(0.12 * width / 2), tall), 0, 180, 360, dark, 2, cv2.LINE_AA)
    tip = rng.uniform(0.16, 0.24)
    edge = tuple(float(v) for v in skin * 0.72)
    cv2.polylines(
        picture, [np.array([at(-0.03, level), at(-0.06, tip - 0.06), at(-0.09, tip)])], False, edge, 2, cv2.LINE_AA
    )
    for side in (-1, 1):
        cv2.circle(picture, at(side * 0.06, tip + 0.02), 3, dark, -1, cv2.LINE_AA)
    lips = tuple(float(v) for v in skin * np.array([0.82, 0.50, 0.50]))
    mouth, wide = rng.uniform(0.40, 0.47), rng.uniform(0.18, 0.24)
    cv2.ellipse(
        picture, at(0, mouth), (round(wide * width / 2), round(0.05 * height / 2)), 0, 0, 360, lips, -1, cv2.LINE_AA
    )
    cv2.line(picture, at(-wide, mouth), at(wide, mouth), dark, 1, cv2.LINE_AA)


def _grain(rng: np.random.Generator, shape: tuple[int, int], size: float) -> np.ndarray:
    """Noise of one grain size, of standard deviation one."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), size)
    return noise / max(1e-6, float(noise.std()))
