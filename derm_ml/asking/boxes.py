"""The boxes of a pair of photos as JSON: what `POST /match` and `derm match --boxes` take.

{"first": [{"label": "pimple", "box": [x1, y1, x2, y2]}, …], "second": […]}, in pixels of the upright photos.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from derm_ml.asking.options import AskingError
from derm_ml.asking.pair import FIRST, SECOND
from derm_ml.records import Region

MOST_BOXES = 200  # a photo: a severe face has some 150; matching is quadratic in them
BOX_BYTES = 2**18
EXAMPLE = '{"first": [{"label": "pimple", "box": [x1, y1, x2, y2]}], "second": []}'

Boxes = dict[str, tuple[Region, ...]]


def read_boxes(data: bytes, labels: Sequence[str]) -> Boxes:
    """The boxes of both photos; none if `data` is empty. Whether they lie in their photos is not looked at here.

    Raises `AskingError` for what is no such JSON, a label that is not among `labels`, or too many boxes.
    """
    if not data.strip():
        return {FIRST: (), SECOND: ()}
    if len(data) > BOX_BYTES:
        raise AskingError(f"'boxes' has more than {BOX_BYTES // 1024} kB")
    try:
        table = json.loads(data)
        if set(table) - {FIRST, SECOND} or not all(isinstance(side, list) for side in table.values()):
            raise TypeError
        return {
            name: tuple(_region(name, number, box, labels) for number, box in enumerate(table.get(name, [])))
            for name in (FIRST, SECOND)
        }
    except AskingError:
        raise
    except (ValueError, AttributeError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise AskingError(f"'boxes' must be JSON such as {EXAMPLE}") from error


def _region(name: str, number: int, box: dict[str, Any], labels: Sequence[str]) -> Region:
    if number >= MOST_BOXES:
        raise AskingError(f"the {name} photo has more than {MOST_BOXES} boxes")
    if box["label"] not in labels:
        raise AskingError(f"box {number} of the {name} photo has an unknown label; known are {', '.join(labels)}")
    x1, y1, x2, y2 = (float(value) for value in box["box"])
    return Region(box["label"], x1, y1, x2, y2)
