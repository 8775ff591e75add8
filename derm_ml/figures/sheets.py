"""Contact sheets: many pictures with captions as one PNG small enough to sit in a report or a web page.

Example:
    >>> png = contact_sheet(images, [f"{id} {label}" for id, label in rows])   # doctest: +SKIP
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from derm_ml.figures.style import INK, PAPER, SOFT, blank

LIMIT = 150_000  # bytes of one picture: Dagster stores metadata as text and grows slow beyond 200 kB
SMALLEST_TILE = 48  # pixels: below it a lesion is no longer seen
GAP, LINE = 10, 15  # pixels between tiles, and of a line of text


def contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8, tile: int = 132, title: str = ""
) -> bytes:
    """Pictures (H, W, 3) uint8 of any size, each fitted into at most `tile` pixels, its caption below.

    A caption may have several lines. Raises `ValueError` if there are not as many captions as pictures.
    """
    return _sheet([[image] for image in images], captions, columns, tile, title)


def heatmap_sheet(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    captions: Sequence[str],
    columns: int = 4,
    tile: int = 132,
    title: str = "",
) -> bytes:
    """Pairs (picture, the same with its heatmap laid over), both (H, W, 3) uint8, side by side with one caption."""
    return _sheet([list(pair) for pair in pairs], captions, columns, tile, title)


def _sheet(cells: list[list[np.ndarray]], captions: Sequence[str], columns: int, tile: int, title: str) -> bytes:
    """The sheet with the largest tiles that fit into `LIMIT` bytes, in true colour where that does."""
    if len(cells) != len(captions):
        raise ValueError(f"{len(cells)} pictures have {len(captions)} captions: each needs one")
    if not cells:
        return blank("There is no picture to show.")
    for side in range(tile, SMALLEST_TILE - 1, -8):
        sheet = _drawn(cells, captions, min(columns, len(cells)), side, title)
        for png in (_encoded(sheet), _encoded(_in_256_colours(sheet))):
            if len(png) <= LIMIT:
                return png
    raise ValueError(f"{len(cells)} pictures do not fit into one sheet of {LIMIT // 1000} kB: show fewer")


def _drawn(cells: list[list[np.ndarray]], captions: Sequence[str], columns: int, tile: int, title: str) -> Image.Image:
    tiles = [[_fitted(image, tile) for image in images] for images in cells]
    tallest = max(small.height for row in tiles for small in row)
    wide = len(cells[0]) * tile + (len(cells[0]) - 1) * 2
    lines = max(caption.count("\n") + 1 for caption in captions)
    high = tallest + 4 + lines * LINE
    head = 26 if title else 0
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (GAP + columns * (wide + GAP), head + GAP + rows * (high + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 8), title, INK, _font(14))
    for place, (images, caption) in enumerate(zip(tiles, captions, strict=True)):
        left = GAP + place % columns * (wide + GAP)
        top = head + GAP + place // columns * (high + GAP)
        for k, small in enumerate(images):
            sheet.paste(small, (left + k * (tile + 2) + (tile - small.width) // 2, top + (tallest - small.height) // 2))
        for k, line in enumerate(caption.split("\n")):
            draw.text((left, top + tallest + 4 + k * LINE), _cut(line, wide), INK if k == 0 else SOFT, _font(11))
    return sheet


def _fitted(image: np.ndarray, tile: int) -> Image.Image:
    picture = Image.fromarray(image)
    scale = tile / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)  # a large photo is first halved cheaply


def _cut(text: str, width: int) -> str:
    """`text` shortened to `width` pixels with an ellipsis in its middle, where ids differ least."""
    font = _font(11)
    if font.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        shorter = f"{text[: keep // 2]}…{text[-(keep - keep // 2) :]}"
        if font.getlength(shorter) <= width:
            return shorter
    return "…"


def _in_256_colours(sheet: Image.Image) -> Image.Image:
    """Refined by k-means and dithered: without, skin and heatmaps show contours that are not there."""
    palette = sheet.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3)
    return sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _encoded(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font the charts use, which matplotlib brings along."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
