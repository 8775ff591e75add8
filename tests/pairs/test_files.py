"""Boxes a user gives to `derm match`: whatever is in the file, a sentence that names it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from derm_ml.pairs.files import read_pair
from derm_ml.records import DataError


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"first": ' + "9" * 5_000 + "}",
        '{"first": [{"label": "pimple", "box": [0, 0, 1' + "0" * 400 + ", 1]}]}",
        '{"first": [{"label": "pimple", "box": "1234567"}]}',
        '{"first": [{"label": "pimple", "box": [1, 2, 3, NaN]}]}',
        '{"first": 7}',
        "[]",
        b"\xff\xfe{}",
    ],
)
def test_boxes_made_to_break_the_reader_are_a_sentence(tmp_path, content):
    photo = tmp_path / "photo.png"
    photo.write_bytes(cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1].tobytes())
    boxes = tmp_path / "boxes.json"
    boxes.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_pair(photo, photo, boxes)
    assert str(caught.value).startswith(str(boxes))
    assert len(str(caught.value)) < len(str(boxes)) + 400
