"""What an upload will cost is read from its header, before anything is decoded."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from derm_ml.images.containers import ImageError
from serving.cost import pixels


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["JPEG", "PNG"]), st.booleans(), st.booleans())
def test_the_header_is_read_right(width, height, kind, progressive, exif):
    buffer = io.BytesIO()
    options = {"progressive": progressive} if kind == "JPEG" else {}
    if exif:
        tags = Image.Exif()
        tags[0x010E] = "x" * 5000
        options["exif"] = tags
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, kind, **options)
    assert pixels(buffer.getvalue()) == width * height


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\0"]))
def test_nothing_that_is_sent_breaks_it(data, start):
    """It is the first code that looks at an upload: an error of its own would be a 500."""
    with contextlib.suppress(ImageError):
        assert pixels(start + data) >= 0


def header(width: int, height: int, depth: int, colour: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_a_deep_png_is_refused_before_its_rows_are_inflated():
    """16 bits and four channels make 320 MB of rows of 40 megapixels, in a file of 300 kB."""
    assert pixels(header(6300, 6300, 8, 6)) == 6300**2
    assert pixels(header(4000, 4000, 16, 6)) == 2 * 4000**2
    with pytest.raises(ImageError, match="8 bits per channel"):
        pixels(header(6300, 6300, 16, 6))
