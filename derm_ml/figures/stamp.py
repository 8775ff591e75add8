"""A sentence written into a figure: it stays with it when the figure is copied out of its page."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

STRIP = 0.028  # of the figure's width: as large as the letters of a chart
_INK, _PAPER = "#7d4b00", "#fff6e5"  # of the notice on every page


def stamped(png: bytes, text: str) -> bytes:
    """The PNG with a strip above it that says `text`."""
    with Image.open(io.BytesIO(png)) as opened:
        figure = opened.convert("RGB") if opened.mode not in ("P", "RGB") else opened.copy()
    size = max(12, round(STRIP * figure.width))
    strip = Image.new("RGB", (figure.width, 2 * size), _PAPER)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(strip).text((size // 2, size), text, _INK, font, anchor="lm")
    whole = Image.new("RGB", (figure.width, strip.height + figure.height))
    whole.paste(strip, (0, 0))
    whole.paste(figure, (0, strip.height))
    if figure.mode == "P":  # chosen so that it stays small
        whole = whole.quantize(256, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
