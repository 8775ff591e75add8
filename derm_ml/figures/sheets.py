"""Contact sheets: many pictures with captions, as one PNG small enough for Dagster's metadata, and as tiles for a page,
whose captions are text.

Example:
    >>> Sheet([[image], [image]], ["ISIC_0000001 nevus", "ISIC_0000002 melanoma"]).png[:4]
    b'\\x89PNG'
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from derm_ml.escape import visible
from derm_ml.figures.style import GREEN, INK, PAPER, SOFT, blank

SIDE = 512  # pixels of the longer side of a tile on a page: as large as a stored image, and a heatmap is readable
LIMIT = 150_000  # bytes of one picture: Dagster stores metadata as text and grows slow beyond 200 kB
SMALLEST_TILE = 48  # pixels: below it a lesion is no longer seen
GAP, LINE = 10, 15  # pixels between tiles, and of a line of text
FRAME = 4  # pixels of a frame's line


@dataclass(frozen=True, slots=True)
class Tile:
    """One cell of a sheet on a page: its images as JPEG, side by side, and the caption below, line by line."""

    images: tuple[bytes, ...]
    caption: str
    framed: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pictures with captions: `cells` holds the pictures (H, W, 3) uint8 of each, of a heatmap the original first.

    A caption may have several lines. `framed` are the places of those in a green frame. In the PNG a row has `columns`
    cells, and a picture of any size is fitted into at most `tile` pixels. Raises `ValueError` if there are not as many
    captions as cells.
    """

    cells: Sequence[Sequence[np.ndarray]]
    captions: Sequence[str]
    columns: int = 8
    tile: int = 132
    title: str = ""
    framed: Collection[int] = ()

    def __post_init__(self) -> None:
        if len(self.cells) != len(self.captions):
            raise ValueError(f"{len(self.cells)} images have {len(self.captions)} captions: each needs one")

    @property
    def png(self) -> bytes:
        """All in one picture of at most `LIMIT` bytes."""
        cells = [list(images) for images in self.cells]
        return _sheet(cells, self.captions, self.columns, self.tile, self.title, self.framed)

    def tiles(self, side: int = SIDE) -> tuple[Tile, ...]:
        """Each cell by itself, its images `side` pixels across or high."""
        return tuple(
            Tile(tuple(_jpeg(image, side) for image in images), visible(caption, keep="\n"), place in self.framed)
            for place, (images, caption) in enumerate(zip(self.cells, self.captions, strict=True))
        )


def _sheet(
    cells: list[list[np.ndarray]],
    captions: Sequence[str],
    columns: int,
    tile: int,
    title: str,
    framed: Collection[int] = (),
) -> bytes:
    """The sheet in true colour if that fits into `LIMIT` bytes, else in 256 colours, and with smaller tiles."""
    if not cells:
        return blank("There is no image to show.")
    captions = [visible(caption, keep="\n") for caption in captions]
    side = tile
    while side >= SMALLEST_TILE:
        sheet = _drawn(cells, captions, min(columns, len(cells)), side, title, framed)
        if side == tile and len(png := _encoded(sheet)) <= LIMIT:
            return png
        png = _encoded(_in_256_colours(sheet))
        if len(png) <= LIMIT:
            return png
        side = min(side - 2, int(0.97 * side * (LIMIT / len(png)) ** 0.5))  # bytes go with the area
    raise ValueError(f"{len(cells)} images do not fit into one sheet of {LIMIT // 1000} kB: show fewer")


def _drawn(
    cells: list[list[np.ndarray]],
    captions: Sequence[str],
    columns: int,
    tile: int,
    title: str,
    framed: Collection[int],
) -> Image.Image:
    tiles = [[_fitted(image, tile) for image in images] for images in cells]
    tallest = max(small.height for row in tiles for small in row)
    wide = len(cells[0]) * tile + (len(cells[0]) - 1) * 2
    longest = max(_font(11).getlength(line) for caption in captions for line in caption.split("\n"))
    wide = max(
        wide, min(int(longest) + 1, int(1.5 * wide))
    )  # white space costs few bytes, a cut word costs its meaning
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
            corner = (left + k * (tile + 2), top + tallest - small.height)
            sheet.paste(small, corner)
            if place in framed:
                right, bottom = corner[0] + small.width - 1, corner[1] + small.height - 1
                draw.rectangle((*corner, right, bottom), outline=GREEN, width=FRAME)
        for k, line in enumerate(caption.split("\n")):
            draw.text((left, top + tallest + 4 + k * LINE), _cut(line, wide), INK if k == 0 else SOFT, _font(11))
    return sheet


def _jpeg(image: np.ndarray, side: int) -> bytes:
    beside = image.shape[1] > 1.6 * image.shape[0]  # two photos side by side
    buffer = io.BytesIO()
    _fitted(image, 2 * side if beside else side).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


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
    """Chosen by k-means, not dithered: dither puts dots into a lesion, and dots in a lesion mean something."""
    sample = sheet.resize((sheet.width // 3, sheet.height // 3), Image.Resampling.NEAREST)  # k-means is slow
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3)
    reduced = sheet.quantize(palette=palette, dither=Image.Dither.NONE)
    colours = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
    colours[np.asarray(reduced)[0, 0]] = 255  # the margin: a mean of near-whites would print as a grey page
    reduced.putpalette(colours.tobytes())
    return reduced


def _encoded(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font the charts use, which matplotlib brings along."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
