"""What decoding an uploaded image will cost, read from its header: nothing is decoded here."""

from __future__ import annotations

import struct

from derm_ml.images.containers import JPEG_MAGIC, PNG_MAGIC, ImageError
from derm_ml.images.decode import MAX_PIXELS, UPLOAD_FORMATS, format_of
from derm_ml.images.dicom import announced_pixels

MAX_DECODED = 160_000_000  # bytes of PNG rows: 40 megapixels of 8-bit RGBA; 16 bits a channel would double it
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by PNG colour type
# start of frame: every SOF marker but DHT (C4), JPG (C8) and DAC (CC)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def pixels(data: bytes) -> int:
    """How many pixels the header of an image announces; 0 for what is no image, and is refused before decoding.

    A PNG with more than 8 bits per channel counts twice, as its rows are twice as long.
    Raises `ImageError` for a PNG whose rows take more than `MAX_DECODED` bytes: 300 kB of a file can hold that.
    """
    if data.startswith(PNG_MAGIC) and len(data) >= 26:
        width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
        rows = width * height * _SAMPLES.get(colour, 4) * depth // 8
        # above that many pixels the decoder refuses with its own sentence
        if rows > MAX_DECODED and width * height * 4 <= MAX_DECODED:
            raise ImageError(
                f"the PNG has {depth} bits per channel and decodes to {rows / 1e6:.0f} MB; at most "
                f"{MAX_DECODED / 1e6:.0f} MB are accepted: store it with 8 bits per channel"
            )
        return width * height * (2 if depth > 8 else 1)
    if "DICOM" in UPLOAD_FORMATS.names and format_of(data) == "DICOM":
        return announced_pixels(data, MAX_PIXELS)
    return _jpeg_pixels(data) if data.startswith(JPEG_MAGIC) else 0


def _jpeg_pixels(data: bytes) -> int:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width * height
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0
