"""A pair of photo files with their boxes, as `derm match` takes them.

boxes.json: {"first": [{"label": "pimple", "box": [x1, y1, x2, y2]}, …], "second": […]}, in pixels of the upright
photos: what `POST /match` takes too.
"""

from __future__ import annotations

from pathlib import Path

from derm_ml.asking.pair import FIRST, SECOND, Pair
from derm_ml.data.sources.text_files import quoted, read_json
from derm_ml.images.decode import INGEST_FORMATS, ImageError, decode, read_image_file
from derm_ml.records import DataError, Region


def read_pair(first: Path, second: Path, boxes: Path | None = None) -> Pair:
    """Read two photos and the boxes in them. Raises `DataError` naming the file and what is wrong with it."""
    pictures = []
    for path in (first, second):
        try:
            pictures.append(decode(read_image_file(path), INGEST_FORMATS))
        except (FileNotFoundError, ImageError) as error:
            said = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
            raise DataError(f"{path}: {said}") from error
    regions = _boxes(boxes) if boxes else {FIRST: (), SECOND: ()}
    try:
        return Pair(pictures[0], pictures[1], regions[FIRST], regions[SECOND])
    except ValueError as error:
        raise DataError(f"{boxes}: {error}") from error


def _boxes(path: Path) -> dict[str, tuple[Region, ...]]:
    table = read_json(path)
    try:
        return {side: tuple(_region(box) for box in table.get(side, [])) for side in (FIRST, SECOND)}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        said = '{"first": [{"label": "pimple", "box": [x1, y1, x2, y2]}], "second": []}'
        raise DataError(
            f"{path}: the boxes cannot be read ({quoted(repr(error))}); write JSON such as {said}"
        ) from error


def _region(box: dict) -> Region:
    x1, y1, x2, y2 = (float(value) for value in box["box"])
    return Region(str(box["label"]), x1, y1, x2, y2)
