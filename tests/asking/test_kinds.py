"""The kinds of questions: boxes in pixels as sent, one large photo in memory at a time, cases as they are uploaded."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from PIL import Image

from derm_ml.asking.boxes import MOST_BOXES
from derm_ml.asking.options import AskingError
from derm_ml.images.decode import UPLOAD_FORMATS
from derm_ml.registry import all_tasks, get_task

LABELS = ("pimple",)
PAIR = get_task("persistent_conditions").asking


def flat(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    "boxes",
    [
        "[]",
        "null",
        '{"third": []}',
        '{"first": {}}',
        '{"first": [5]}',
        '{"first": [{"label": "pimple", "box": [1, 2, 3]}]}',
        '{"first": [{"label": "pimple", "box": [1, 2, 3, 1' + 400 * "0" + "]}]}",
        '{"first": [{"label": "pimple", "box": [NaN, 2, 3, 4]}]}',
        '{"first": [{"label": "wart", "box": [1, 2, 3, 4]}]}',
        "[" * 100_000,
        json.dumps({"first": [{"label": "pimple", "box": [1, 2, 3, 4]}] * (MOST_BOXES + 1)}),
    ],
)
def test_boxes_that_are_none_get_a_sentence(boxes):
    photo = flat(64, 64)
    with pytest.raises(AskingError):
        PAIR.decoded({"first": photo, "second": photo, "boxes": boxes.encode()}, LABELS)


def test_boxes_and_their_faults_are_in_pixels_as_sent():
    parts = {"first": flat(400, 200), "second": flat(100, 50), "boxes": b""}
    box = {"label": "pimple", "box": [40, 20, 80, 40]}
    pair = PAIR.decoded(parts | {"boxes": json.dumps({"first": [box]}).encode()}, LABELS, 100)
    assert (pair.first.shape, pair.sizes) == ((50, 100, 3), ((200, 400), (50, 100)))
    assert pair.first_regions[0].box == (10, 5, 20, 10)
    outside = json.dumps({"first": [{"label": "pimple", "box": [40, 20, 80, 240]}]}).encode()
    with pytest.raises(AskingError, match="y 20 to 240 of 400×200"):
        PAIR.decoded(parts | {"boxes": outside}, LABELS, 100)


def test_one_large_photo_is_in_memory_at_a_time():
    """Ten questions with two photos of 40 megapixels each would be more than two gigabytes."""
    parts = {name: flat(2000, 2000) for name in ("first", "second")}
    whole = 3 * 2000 * 2000
    tracemalloc.start()
    try:
        PAIR.decoded(parts, LABELS, 500)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * whole  # decoding takes twice the image
    finally:
        tracemalloc.stop()


def test_facts_of_a_person_are_sent_only_where_the_task_declares_them():
    """A replay that sends an age of NaN is refused; one that leaves a known age out compares other numbers."""
    known = {"age": 60.0, "sex": "female", "site": "arm"}
    assert get_task("lesion_classification").asking.facts(known) == {"age": 60.0, "sex": "female"}
    assert get_task("lesion_classification").asking.facts({"age": float("nan"), "sex": "unknown"}) == {}
    assert get_task("retinal_findings").asking.facts(known) == {}


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_a_question_can_be_as_large_as_its_images(task):
    images = [part for part in task.asking.parts if part.is_image]
    assert task.asking.body_bytes >= max(1, len(images)) * UPLOAD_FORMATS.max_bytes
    assert all(option.help and option.used_for for option in task.asking.options)
