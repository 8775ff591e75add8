"""What a face may wear at a second visit: glasses, a beard, make-up; each drawn on a photo, and what of it is hidden.

Everything works on RGB (H, W, 3) uint8 and returns a new picture; `where` (H, W) bool is its skin
(`synthetic/skin.py`), by whose extent the eyes and the chin are placed: photos of half a face have no other landmark.
"""

from __future__ import annotations

import cv2
import numpy as np

EYE_LINE = (0.26, 0.42)  # of the skin's height from its top: where their middle is
CHIN = 0.62  # below it a beard grows


def glasses(photo: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames before the eyes, with a little reflection in the lenses; and what they hide (H, W) bool: the frames."""
    left, top, width, height = _extent(where)
    y = top + height * rng.uniform(*EYE_LINE)
    half = width * rng.uniform(0.15, 0.19), width * rng.uniform(0.1, 0.14)
    thick = max(2, round(width * rng.uniform(0.012, 0.03)))
    frame, lens = (np.zeros(photo.shape[:2], np.uint8) for _ in range(2))
    for side in (-1, 1):
        middle = (round(left + width / 2 + side * width * 0.22), round(y))
        axes = (round(half[0]), round(half[1]))
        cv2.ellipse(lens, middle, axes, 0, 0, 360, 255, -1)
        cv2.ellipse(frame, middle, axes, 0, 0, 360, 255, thick)
        outer = (round(middle[0] + side * half[0]), round(y))
        cv2.line(frame, outer, (round(outer[0] + side * width * 0.2), round(y - 0.02 * height)), 255, thick)
    bridge = [round(left + width * (0.5 + part) + sign * half[0]) for part, sign in ((-0.22, 1), (0.22, -1))]
    cv2.line(frame, (bridge[0], round(y)), (bridge[1], round(y)), 255, thick)
    glare = np.linspace(0, rng.uniform(0.05, 0.3), photo.shape[0])[:, None] * (lens > 0)
    seen = photo * (1 - glare[..., None]) + 255 * glare[..., None]
    return _laid(seen, np.asarray(rng.integers(10, 90, 3), float), frame), frame > 0


def beard(photo: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stubble or a beard on the lower face; and what it hides (H, W) bool: the skin below a dense one."""
    left, top, width, height = _extent(where)
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]].astype(np.float32)
    edge = top + height * (CHIN + 0.06 * np.cos(6 * (columns - left) / max(1, width)))  # over the lip, under the cheeks
    low = np.clip((rows - edge) / (0.08 * height), 0, 1) * cv2.GaussianBlur(where.astype(np.float32), (0, 0), 3)
    dense = float(rng.uniform(0.3, 1.0))
    noise = rng.normal(0, 1, photo.shape[:2]).astype(np.float32)
    hairs = cv2.GaussianBlur(noise, (0, 0), 0.7, sigmaY=2.2)
    strands = np.clip(dense + 0.5 * hairs / hairs.std(), 0, 1) * low
    tint = np.asarray(rng.uniform(15, 75) * np.array([1.0, 0.85, 0.75]))
    return _laid(photo, tint, (255 * strands).astype(np.uint8)), (low > 0.5) & (dense > 0.7)


def make_up(photo: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Foundation: the skin evened towards one tone, with what is smaller than a cheek half covered."""
    amount = float(rng.uniform(0.35, 0.7))
    side = max(photo.shape[:2])
    smooth = cv2.GaussianBlur(photo, (0, 0), 0.03 * side).astype(np.float32)
    tone = np.median(photo[where] if where.any() else photo.reshape(-1, 3), axis=0)
    covered = 0.7 * smooth + 0.3 * (tone + rng.normal(0, 5, 3))
    soft = amount * cv2.GaussianBlur(where.astype(np.float32), (0, 0), 0.006 * side)[..., None]
    return np.clip(photo * (1 - soft) + covered * soft + 0.5, 0, 255).astype(np.uint8)


def _extent(where: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, width and height of the skin; of all of it where there is none."""
    if not where.any():
        return 0, 0, where.shape[1], where.shape[0]
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def _laid(photo: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    soft = cv2.GaussianBlur(mask, (0, 0), 0.8).astype(np.float32)[..., None] / 255
    return np.clip(photo * (1 - soft) + colour * soft + 0.5, 0, 255).astype(np.uint8)
