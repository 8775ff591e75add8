"""Requests made to break the service: whatever is sent, it is refused in a sentence and the next client is answered."""

from __future__ import annotations

import io
import random
from collections import Counter
from http.client import HTTPConnection, HTTPException

import numpy as np
import pytest
from PIL import Image

from derm_ml.registry import get_task
from serving.factory import make_service

TASK = "lesion_classification"
REQUESTS = 10_000
# not /metrics: it answers only where BentoML's own server has set a folder for it
PATHS = ("/predict", "/explain", "/similar", "/match", "/", "/readyz", "/livez", "/docs.json", "/../x", "/predict/")
KINDS = ("image/jpeg", "image/png", "application/octet-stream", "multipart/form-data; boundary=x", "application/json",
         "application/vnd.bentoml+pickle", "text/plain", "", "image/png; name=" + "x" * 500)  # fmt: skip
QUERIES = (
    "", "age=63&sex=female", "label=nevus", "label=wart", "age=nan", "age=1e999", "k=0", "k=" + "9" * 400, "mask=rle",
    "point=recall_0.95", "age=1&age=2", "%00=%ff", "thumbnails=yes&k=3", "x" * 3000, "a=%F0%9F%92%A3",
)  # fmt: skip


@pytest.fixture
def port(bundle, listening):
    """A real server in front of a real model."""
    service = make_service(get_task(TASK), bundle, name=f"{TASK}_hostile")
    with listening(service.to_asgi()) as port:
        yield port


def images(rng: random.Random) -> list[bytes]:
    """Sound files of every kind that is accepted, and of some that are not."""
    rgb = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (40, 50, 3), np.uint8)
    found = []
    for kind, mode in (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "1"),
                       ("GIF", "P"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("BMP", "RGB")):  # fmt: skip
        buffer = io.BytesIO()
        Image.fromarray(rgb).convert(mode).save(buffer, kind)
        found.append(buffer.getvalue())
    return found


def spoilt(rng: random.Random, data: bytes) -> bytes:
    """The same with bytes changed, cut out, doubled or put behind it."""
    wrong = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(wrong) or 1)
        match rng.randrange(5):
            case 0:
                wrong[at : at + 4] = rng.randbytes(4)
            case 1:
                del wrong[at : at + rng.randrange(1, 400)]
            case 2:
                wrong[at:at] = wrong[: rng.randrange(200)]
            case 3:
                wrong[at : at + 4] = b"\xff\xff\xff\xff"
            case _:
                wrong += rng.choice([b"PK\x03\x04", b"%PDF-1.7", b"\x80\x04\x95", b"<svg>", bytes(500)])
    return bytes(wrong)


def test_nothing_that_is_sent_is_answered_with_a_fault_of_ours(port, encode):
    """A 5xx is a bug that somebody will find, and then use; a crash takes everybody's service away."""
    rng, statuses, faults = random.Random(17), Counter[int](), []
    sound = images(rng)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(REQUESTS):
        method = rng.choices(["POST", "GET", "PUT", "DELETE", "OPTIONS"], [40, 4, 1, 1, 1])[0]
        path, query = rng.choices(PATHS, [8, 4, 2, 2, 1, 1, 1, 1, 1, 1])[0], rng.choice(QUERIES)
        body = spoilt(rng, rng.choice(sound)) if rng.random() < 0.9 else rng.randbytes(rng.randrange(3000))
        headers = {"Content-Type": rng.choice(KINDS)}
        if rng.random() < 0.1:
            headers[rng.choice(["Content-Encoding", "traceparent", "Authorization", "Host", "X-Forwarded-Host"])] = (
                rng.choice(["gzip", "00-0-0-0", "Bearer x", "evil.example", "[", "\x7f", "a" * 5000])
            )
        try:
            connection.request(method, f"{path}?{query}", body=body, headers=headers)
            response = connection.getresponse()
            said = response.read()
        except (HTTPException, OSError):  # the server hung up, as it may on what is no HTTP
            connection.close()
            continue
        statuses[response.status] += 1
        if response.status >= 500 and not (response.status == 503 and b"index" in said):
            faults.append((number, method, path, query, response.status, said[:200]))
        if response.getheader("Connection") == "close":
            connection.close()
    assert faults == []
    assert {200, 400, 404, 405, 415} <= set(statuses)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/predict", body=encode(), headers={"Content-Type": "image/png"})
    assert connection.getresponse().status == 200
