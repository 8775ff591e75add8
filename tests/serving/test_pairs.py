"""What strangers may put into the form of `/match`: always a sentence, never a stack trace."""

from __future__ import annotations

import io
import json
import tracemalloc

import anyio
import pytest
from PIL import Image
from starlette.requests import Request

from serving.options import OptionError
from serving.pairs import MOST_BOXES, decoded_pair, read_form

LABELS = ("pimple",)


@pytest.fixture(scope="module")
def photo() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64)).save(data, "PNG")
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
def test_boxes_that_are_none_get_a_sentence(photo, boxes):
    with pytest.raises(OptionError):
        decoded_pair({"first": photo, "second": photo, "boxes": boxes.encode()}, LABELS)


def flat(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(data, "PNG")
    return data.getvalue()


def test_boxes_and_their_faults_are_in_pixels_as_sent():
    parts = {"first": flat(400, 200), "second": flat(100, 50), "boxes": b""}
    box = {"label": "pimple", "box": [40, 20, 80, 40]}
    pair = decoded_pair(parts | {"boxes": json.dumps({"first": [box]}).encode()}, LABELS, 100)
    assert (pair.first.shape, pair.sizes) == ((50, 100, 3), ((200, 400), (50, 100)))
    assert pair.first_regions[0].box == (10, 5, 20, 10)
    outside = json.dumps({"first": [{"label": "pimple", "box": [40, 20, 80, 240]}]}).encode()
    with pytest.raises(OptionError, match="y 20 to 240 of 400×200"):
        decoded_pair(parts | {"boxes": outside}, LABELS, 100)


def test_one_large_picture_is_in_memory_at_a_time():
    """Ten questions with two photos of 40 megapixels each would be more than two gigabytes."""
    parts = {name: flat(2000, 2000) for name in ("first", "second")}
    whole = 3 * 2000 * 2000
    tracemalloc.start()
    try:
        decoded_pair(parts, LABELS, 500)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * whole  # decoding takes twice the picture
    finally:
        tracemalloc.stop()


async def form(body: bytes, kind: str) -> dict[str, bytes]:
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return await read_form(Request(scope, receive))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"no form at all", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="boxes"\r\n\r\n\\ud800\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=unicode_escape",
        ),
    ],
)
def test_a_form_that_is_none_gets_a_sentence(body, kind):
    with pytest.raises(OptionError):
        anyio.run(form, body, kind)
