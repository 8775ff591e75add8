"""Where a JPEG or PNG file ends, which of its parts are picture, and whether it is another file as well.

Only the container is walked here, in the bytes; pixels are decoded in `decode.py`.

Source of the markers and chunks: ITU-T T.81 annex B (JPEG), W3C PNG specification 3rd edition, section 5.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"

_SOI, _EOI, _SOS, _APP0, _APP14, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE, 0xFE
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0-7, SOI: markers without a length
# in entropy-coded data FF 00 is a stuffed FF, FF D0-D7 a restart, FF FF filling: any other FF xx ends the scan
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

# what must not follow a picture. A second JPEG is ordinary (phones append a depth map), so is an MP4 (motion photo).
_FOREIGN = {
    b"pk\x03\x04": "a ZIP archive",
    b"%pdf-": "a PDF",
    b"\x7felf": "a program",
    b"mz": "a program",
    b"\xca\xfe\xba\xbe": "a program",
    b"#!": "a script",
    b"<?php": "a script",
    b"<script": "a script",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<svg": "an SVG",
    b"rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b\x08": "a gzip archive",
    b"gif8": "a GIF",
    PNG_MAGIC.lower(): "a PNG",
}


MOST_SCANS = 64  # a progressive JPEG has some ten; each costs the decoder a pass over all pixels


class ImageError(ValueError):
    """The bytes are not a picture that is accepted; the message is one sentence fit for the person who sent them."""


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment, SOI to EOI; a scan's entropy-coded data belong to its SOS.

    Bytes between segments that are no marker are skipped, as libjpeg does. Raises `ImageError` if the file ends early.
    """
    yield _SOI, 0, 2
    position = 2
    while True:
        start = data.find(b"\xff", position)
        code = start + 1
        while start >= 0 and data[code : code + 1] == b"\xff":  # any number of FF may fill before a marker
            code += 1
        if start < 0 or code >= len(data):
            raise ImageError("the JPEG file is truncated: it has no end marker")
        marker, end = data[code], code + 1
        if marker == 0x00:  # not a marker but stray data
            position = end
            continue
        if marker not in _STANDALONE and marker != _EOI:
            length = int.from_bytes(data[end : end + 2], "big")
            if length < 2 or end + length > len(data):
                raise ImageError("the JPEG file is truncated: a segment is cut off")
            end += length
        if marker == _SOS:
            found = _END_OF_SCAN.search(data, end)
            if found is None:
                raise ImageError("the JPEG file is truncated: it has no end marker")
            end = found.start()
        yield marker, start, end
        if marker == _EOI:
            return
        position = end


def jpeg_end(data: bytes) -> int:
    """Offset behind the end marker. Raises `ImageError` for a file that ends early or has more than 64 scans."""
    scans = last = 0
    for marker, _, end in jpeg_segments(data):
        scans, last = scans + (marker == _SOS), end
        if scans > MOST_SCANS:
            raise ImageError(f"the JPEG file has more than {MOST_SCANS} scans; save it again as an ordinary JPEG")
    return last


def strip_jpeg(data: bytes) -> bytes:
    """The same compressed picture without metadata: no EXIF, XMP, ICC, comments, thumbnails, trailing bytes.

    JFIF (cut to its 14 bytes, so without a thumbnail) and Adobe's APP14 stay: they say how colours are coded.
    """
    parts: list[bytes] = []
    for marker, start, end in jpeg_segments(data):
        part = data[start:end]
        is_metadata = marker == _COM or 0xE0 <= marker <= 0xEF or 0xF0 <= marker <= 0xFD
        if marker == _APP0 and part[4:9] == b"JFIF\0" and len(part) >= 18:
            parts.append(b"\xff\xe0\x00\x10" + part[4:16] + b"\0\0")
        elif (marker == _APP14 and part[4:9] == b"Adobe") or not is_metadata:
            parts.append(part)
    return b"".join(parts)


def png_end(data: bytes) -> int:
    """Offset behind the IEND chunk. Raises `ImageError` for a chunk that is cut off or fails its checksum."""
    position = len(PNG_MAGIC)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            raise ImageError("the PNG file is truncated")
        body = memoryview(data)[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError("the PNG file is damaged: the checksum of a part is wrong")
        if body[:4] == b"IEND":
            return end
        position = end


def refuse_polyglot(data: bytes, end: int) -> None:
    """Raise `ImageError` if the bytes are another file too: an archive, a PDF, a program, a page.

    `end` is where the picture ends. Trailing bytes that are no such file are ordinary (cameras write them) and
    are ignored; they are never stored.
    """
    tail = data[end : end + 64].lstrip(b"\0\r\n\t ").lower()
    for magic, what in _FOREIGN.items():
        if tail.startswith(magic):
            raise ImageError(f"the file is an image with {what} behind it; send the image alone")
    if b"%PDF-" in data[:1024]:  # PDF readers accept their header anywhere in the first 1024 bytes
        raise ImageError("the file is an image and a PDF at once; send the image alone")
    archive = data.rfind(b"PK\x05\x06", max(0, len(data) - 65_557))  # ZIP's end record: 22 bytes + comment ≤ 65,535
    if archive >= 0 and archive + 22 + int.from_bytes(data[archive + 20 : archive + 22], "little") == len(data):
        raise ImageError("the file is an image and a ZIP archive at once; send the image alone")
