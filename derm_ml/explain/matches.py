"""A pair of photos side by side: a line from each lesion to itself, a colour for each state."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from derm_ml.asking.pair import Pair

# Okabe & Ito, as in figures/style.py: told apart with every common colour blindness
COLOURS = {
    "persistent": (0, 158, 115),
    "resolved": (86, 180, 233),
    "new": (213, 94, 0),
    "not_visible": (240, 228, 66),
    "unknown": (230, 230, 230),
}
GAP = 12
WIDEST = 1280  # a photo a thousand times wider than high must not become a picture of gigabytes
LOWEST = 64  # so that the legend has room


def side_by_side(
    pair: Pair,
    matches: Sequence[tuple[int, int]],
    states: tuple[Sequence[str], Sequence[str]],
    height: int = 640,
    wrong: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """RGB (H, W, 3) uint8, H about `height` and less for very wide photos, W at most 2 · 1280 + 12.

    Boxes are numbered as they were given; `wrong` matches are dashed.
    """
    scales = [min(height / p.shape[0], WIDEST / p.shape[1]) for p in pair.pictures]
    shown = [
        cv2.resize(
            p,
            (max(1, round(p.shape[1] * s)), max(1, round(p.shape[0] * s))),
            interpolation=cv2.INTER_AREA if s < 1 else cv2.INTER_LINEAR,
        )
        for p, s in zip(pair.pictures, scales, strict=True)
    ]
    offset = shown[0].shape[1] + GAP
    height = max(LOWEST, *(p.shape[0] for p in shown))
    canvas = np.full((height, offset + shown[1].shape[1], 3), 255, np.uint8)
    for left, photo in zip((0, offset), shown, strict=True):
        canvas[: photo.shape[0], left : left + photo.shape[1]] = photo
    middles: list[list[tuple[int, int]]] = []
    for regions, scale, left, of_side in zip(pair.regions, scales, (0, offset), states, strict=True):
        places = []
        for number, region in enumerate(regions):
            colour = COLOURS[of_side[number] if number < len(of_side) else "unknown"]
            x1, y1, x2, y2 = (round(v * scale) for v in region.box)
            cv2.rectangle(canvas, (left + x1, y1), (left + x2, y2), (0, 0, 0), 3, cv2.LINE_AA)
            cv2.rectangle(canvas, (left + x1, y1), (left + x2, y2), colour, 2, cv2.LINE_AA)
            _written(canvas, str(number), (left + x1, max(12, y1 - 4)), colour, 0.45)
            places.append((left + (x1 + x2) // 2, (y1 + y2) // 2))
        middles.append(places)
    bad = set(wrong)
    for a, b in matches:
        start, end = np.array(middles[0][a]), np.array(middles[1][b])
        pieces = np.linspace(0, 1, 41 if (a, b) in bad else 2)
        for k in range(0, len(pieces) - 1, 2):
            ends = [tuple(int(v) for v in start + t * (end - start)) for t in pieces[k : k + 2]]
            cv2.line(
                canvas, ends[0], ends[1], COLOURS["new"] if (a, b) in bad else COLOURS["persistent"], 1, cv2.LINE_AA
            )
    place = 8
    for name in ("persistent", "resolved", "new", "not_visible"):
        _written(canvas, name.replace("_", " "), (place, height - 10), COLOURS[name], 0.5)
        place += 12 + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    return canvas


def _written(canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int], size: float) -> None:
    """Text with a dark edge, legible on skin and on black."""
    x, y = at
    for dx, dy, ink in ((-1, 0, (0, 0, 0)), (1, 0, (0, 0, 0)), (0, -1, (0, 0, 0)), (0, 1, (0, 0, 0)), (0, 0, colour)):
        cv2.putText(canvas, text, (x + dx, y + dy), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)
