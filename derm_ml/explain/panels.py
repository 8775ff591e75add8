"""Drawings side by side as one picture: the image as it is, then what a model makes of it, with words and a bar below.

picture = beside([Panel(image, ORIGINAL), Panel(drawn, "Influence on melanoma", heat=True)], "melanoma: 83.0%")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMN = 300  # pixels: the least width of a picture, so that below a small image the bar and its words have room
GAP = 12
SMALLEST, LARGEST = 14, 48  # pixels of letters
ORIGINAL = "The image"  # what is written below the first panel
INK, WHITE = (29, 39, 51), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Panel:
    """A drawing (H, W, 3) uint8 and what is written below it; below `heat`maps a bar says what the colours mean."""

    drawing: np.ndarray
    text: str
    heat: bool = False


def beside(panels: Sequence[Panel], caption: str) -> np.ndarray:
    """RGB (H, W, 3) uint8: the panels side by side, none of them enlarged, and the caption below all of them."""
    width = max(COLUMN, *(panel.drawing.shape[1] for panel in panels))
    tallest = max(panel.drawing.shape[0] for panel in panels)
    font = _font(width // 30)
    columns = []
    for panel in panels:
        parts = [_on_white(panel.drawing, tallest, width), _written(panel.text, width, font)]
        columns.append(np.vstack([*parts, *([_bar(width, font)] if panel.heat else [])]))
    high = max(len(column) for column in columns)
    spaced = [_on_white(column, high, width + GAP) for column in columns[:-1]]
    return captioned(np.hstack([*spaced, _on_white(columns[-1], high, width)]), caption)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """The picture with a white strip of text under it: what is shown, and that it is for research only.

    Long lines are wrapped to the width of the picture; one narrower than `COLUMN` gets white at its right.
    """
    width = max(COLUMN, image.shape[1])
    return np.vstack([_on_white(image, len(image), width), _written(text, width, _font(width // 60))])


def _on_white(image: np.ndarray, height: int, width: int) -> np.ndarray:
    below, beside = height - image.shape[0], width - image.shape[1]
    return cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=WHITE)


def _written(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> np.ndarray:
    """A white strip (H, width, 3) with the text, its lines wrapped."""
    lines = _wrapped(text, width - 2 * GAP, font)
    step = round(1.4 * _height(font))
    strip = Image.new("RGB", (width, step * len(lines) + GAP), WHITE)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((GAP // 2, GAP // 2 + number * step), line, INK, font)
    return np.asarray(strip)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = []
    for line in text.split("\n"):
        lines.append("")
        for word in line.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
    return lines


def _bar(width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> np.ndarray:
    """The colours of a heatmap between what they mean, as the pages of heatmaps say it."""
    none, most = "no influence", "most influence"
    high = _height(font)
    strip = Image.new("RGB", (width, high + GAP), WHITE)
    draw = ImageDraw.Draw(strip)
    left = GAP + round(font.getlength(none))
    right = width - GAP - round(font.getlength(most))
    draw.text((GAP // 2, GAP // 2), none, INK, font)
    draw.text((right + GAP // 2, GAP // 2), most, INK, font)
    ramp = np.linspace(0, 255, right - left).astype(np.uint8)[None]
    bar = cv2.applyColorMap(np.repeat(ramp, high, axis=0), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    strip.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, GAP // 2))
    return np.asarray(strip)


def _height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(font.getbbox("Ag")[3])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own: the image of a service has no other."""
    return ImageFont.load_default(min(LARGEST, max(SMALLEST, size)))
