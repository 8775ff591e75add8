"""A request about two photos: multipart/form-data with `first`, `second` and, if there are conditions, `boxes`.

    curl -F first=@visit1.jpg -F second=@visit2.jpg -F boxes=@boxes.json http://127.0.0.1:3000/match

`boxes` is JSON: {"first": [{"label": "pimple", "box": [x1, y1, x2, y2]}, …], "second": […]}, in pixels of the upright
photos. File names and content types a client writes are not looked at; nothing is ever written to disk.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from derm_ml.images.decode import UPLOAD_FORMATS, decode
from derm_ml.images.preprocess import limit_side
from derm_ml.pairs import FIRST, SECOND, Pair, box_fault
from derm_ml.records import Region
from serving.options import OptionError

FORM = "multipart/form-data"
BOXES = "boxes"
MOST_BOXES = 200  # a photo: a severe face has some 150; matching is quadratic in them
BOX_BYTES = 2**18
BODY_BYTES = 2 * UPLOAD_FORMATS.max_bytes + 2 * BOX_BYTES  # two photos and what stands between them
EXAMPLE = '{"first": [{"label": "pimple", "box": [x1, y1, x2, y2]}], "second": []}'


class _InMemory(MultiPartParser):
    """Photos of patients are never written to disk, not even for a moment."""

    spool_max_size = BODY_BYTES


async def read_form(request: Request, with_boxes: bool = True) -> dict[str, bytes]:
    """The parts of a request by name: first, second and boxes, or the two photos alone.

    Raises `OptionError` for a body that is not what it should be.
    """
    known = (FIRST, SECOND, BOXES) if with_boxes else (FIRST, SECOND)
    parser = _InMemory(request.headers, _body(request), max_files=3, max_fields=1, max_part_size=BOX_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise OptionError(f"the form cannot be read; send {', '.join(known)} as multipart/form-data") from error
    parts: dict[str, bytes] = {}
    try:
        for name, value in form.multi_items():
            if name not in known or name in parts:
                raise OptionError(f"the form may hold {', '.join(known)}, once each")
            parts[name] = await value.read() if isinstance(value, UploadFile) else value.encode("utf-8", "replace")
    finally:
        await form.close()
    for name in (FIRST, SECOND):
        if not parts.get(name):
            raise OptionError(f"the photo '{name}' is missing; send {FIRST} and {SECOND}")
    return parts


def decoded_pair(parts: dict[str, bytes], labels: tuple[str, ...], longest: int = 0) -> Pair:
    """The pair of a form; with `longest`, photos are shrunk to that side and boxes with them, one after the other: no
    two large pictures are in memory at once.

    Raises `ImageError` or `OptionError` with a sentence for the person who sent it; it repeats nothing they sent.
    """
    boxes = _boxes(parts.get(BOXES, b""), labels)
    pictures, regions, sizes = [], [], []
    for name in (FIRST, SECOND):
        picture, (height, width) = _small(parts[name], longest)
        for number, box in enumerate(boxes[name]):
            if fault := box_fault(box, width, height):
                raise OptionError(f"box {number} of the {name} photo {fault}")
        across, down = picture.shape[1] / width, picture.shape[0] / height
        pictures.append(picture)
        regions.append(tuple(box.scaled(across, down) for box in boxes[name]))
        sizes.append((height, width))
    return Pair(pictures[0], pictures[1], regions[0], regions[1], (sizes[0], sizes[1]))


def _small(data: bytes, longest: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A picture of at most that side, and its (height, width) as sent."""
    picture = decode(data)
    height, width = picture.shape[:2]
    return limit_side(picture, longest), (height, width)


def _boxes(data: bytes, labels: tuple[str, ...]) -> dict[str, tuple[Region, ...]]:
    if not data.strip():
        return {FIRST: (), SECOND: ()}
    if len(data) > BOX_BYTES:
        raise OptionError(f"'{BOXES}' has more than {BOX_BYTES // 1024} kB")
    try:
        table = json.loads(data)
        if set(table) - {FIRST, SECOND} or not all(isinstance(side, list) for side in table.values()):
            raise TypeError
        return {
            name: tuple(_region(name, number, box, labels) for number, box in enumerate(table.get(name, [])))
            for name in (FIRST, SECOND)
        }
    except OptionError:
        raise
    except (ValueError, AttributeError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise OptionError(f"'{BOXES}' must be JSON such as {EXAMPLE}") from error


def _region(name: str, number: int, box: dict[str, Any], labels: tuple[str, ...]) -> Region:
    if number >= MOST_BOXES:
        raise OptionError(f"the {name} photo has more than {MOST_BOXES} boxes")
    if box["label"] not in labels:
        raise OptionError(f"box {number} of the {name} photo has an unknown label; known are {', '.join(labels)}")
    x1, y1, x2, y2 = (float(value) for value in box["box"])
    return Region(box["label"], x1, y1, x2, y2)


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        yield chunk
