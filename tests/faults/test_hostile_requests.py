"""Requests made to break the service: whatever is sent, it is refused in a sentence and the next client is answered.

Sent by several clients at once to a built Bento in a server of its own, as it is deployed. The same ones every time.
"""

from __future__ import annotations

import io
import json
import random
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import numpy as np
import psutil
import pytest
from PIL import Image

from derm_assets.packaging import build_bento, running
from derm_ml.model_folder import ModelFolder

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
REQUESTS, CLIENTS = 10_000, 4
PATHS = ("/predict", "/explain", "/similar", "/match", "/", "/readyz", "/livez", "/metrics", "/docs.json", "/../x",
         "/predict/", "/page/../../etc/passwd", "/openapi.json")  # fmt: skip
WEIGHTS = (30, 12, 8, 4, 2, 2, 2, 1, 2, 2, 2, 2, 1)
METHODS, OFTEN = ("POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "X" * 40), (44, 4, 1, 1, 1, 1, 1, 1)
KINDS = ("image/jpeg", "image/png", "application/octet-stream", "application/dicom",
         "multipart/form-data; boundary=x", "application/json",
         "application/vnd.bentoml+pickle", "text/plain", "", "image/png; name=" + "x" * 500)  # fmt: skip
QUERIES = (
    "", "age=63&sex=female", "label=nevus", "label=wart", "age=nan", "age=1e999", "k=0", "k=" + "9" * 400, "mask=rle",
    "point=recall_0.95", "age=1&age=2", "%00=%ff", "thumbnails=yes&k=3", "x" * 3000, "a=%F0%9F%92%A3",
)  # fmt: skip


# what is no HTTP, or stops half-way
RAW = (
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of TLS
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\nContent-Length: 9\r\n\r\nx",
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\n\x89PNG",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"\x00" * 300,
)


SOUND_FIRST = (6, 6, 6, *[1] * 20)  # enough gets as far as the model


@dataclass
class Found:
    """What one client was answered: how often with each status, and what must not be."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[tuple[object, ...]] = field(default_factory=list)


@pytest.fixture(scope="module")
def port(indexed, tmp_path_factory) -> Iterator[int]:
    """A real server in front of a real model."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERM_HOME", str(home))
        patch.setenv("BENTOML_HOME", str(home / "bentoml"))
        patch.delenv("DERM_TOKEN", raising=False)
        tag = build_bento(TASK, indexed, index=ModelFolder.holding(indexed).index)
        with running(TASK, tag) as port:
            yield port


def images(rng: random.Random, as_dicom) -> list[bytes]:
    """Sound files of every kind that is accepted, and of some that are not."""
    rgb = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (40, 50, 3), np.uint8)
    found = []
    for kind, mode in (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "1"),
                       ("GIF", "P"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("BMP", "RGB")):  # fmt: skip
        buffer = io.BytesIO()
        Image.fromarray(rgb).convert(mode).save(buffer, kind)
        found.append(buffer.getvalue())
    return [*found, as_dicom(rgb)]


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


def attack(port: int, client: int, as_dicom) -> Found:
    """The requests of one client, over one connection as long as the server keeps it."""
    rng, found = random.Random(17 + client), Found()
    sound = images(rng, as_dicom)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(REQUESTS // CLIENTS):
        if rng.random() < 0.02:
            found.statuses[broken(port, rng.choice(RAW))] += 1
            continue
        method, path = rng.choices(METHODS, OFTEN)[0], rng.choices(PATHS, WEIGHTS)[0]
        query = rng.choices(QUERIES, SOUND_FIRST[: len(QUERIES)])[0]
        body = spoilt(rng, rng.choice(sound)) if rng.random() < 0.9 else rng.randbytes(rng.randrange(3000))
        headers = {"Content-Type": rng.choices(KINDS, SOUND_FIRST[: len(KINDS)])[0]}
        if rng.random() < 0.1:
            headers[
                rng.choice(["Content-Encoding", "traceparent", "Authorization", "Host", "X-Forwarded-Host", "Accept"])
            ] = rng.choice(
                ["gzip", "00-0-0-0", "Bearer x", "evil.example", "[", "\x7f", "a" * 5000, "application/fhir+json"]
            )
        try:
            connection.request(method, f"{path}?{query}", body=body, headers=headers)
            response = connection.getresponse()
            said = response.read()
        except (HTTPException, OSError):  # the server hung up, as it may on what is no HTTP
            connection.close()
            found.statuses[0] += 1
            continue
        found.statuses[response.status] += 1
        if not (response.status < 400 or (response.status < 500 and (method == "HEAD" or is_refusal(said)))):
            found.faults.append((client, number, method, path, query[:40], response.status, said[:200]))
        if response.getheader("Connection") == "close":
            connection.close()
    return found


def is_refusal(said: bytes) -> bool:
    """Whether a body is one sentence that tells nothing of the program and repeats nothing that was sent."""
    if said == b"Invalid HTTP request received.":  # the server's own, of what is no HTTP
        return True
    try:
        told = json.loads(said)
    except ValueError:
        return False
    sentence = told.get("error", "") if isinstance(told, dict) and set(told) == {"error"} else ""
    hidden = ("Traceback", "/derm_ml/", "site-packages", "evil.example", "x" * 50, "\n")
    return 10 < len(sentence) < 600 and not any(word in sentence for word in hidden)


def broken(port: int, sent: bytes) -> int:
    """The status that what is no whole request is answered with; 0 where the server only hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            first = connection.recv(100)
        except OSError:
            return 0
    return int(first.split(b" ")[1]) if first.startswith(b"HTTP/") else 0


def answers(port: int, encode) -> list[dict]:
    """What the service says of three images, and who says it."""
    connection, found = HTTPConnection("127.0.0.1", port, timeout=60), []
    for kind, query in (("PNG", ""), ("JPEG", "?sets=yes"), ("JPEG", "?abstained=numbers")):
        connection.request("POST", f"/predict{query}", body=encode(kind), headers={"Content-Type": "image/png"})
        response = connection.getresponse()
        assert response.status == 200
        found.append({name: v for name, v in json.loads(response.read()).items() if name != "prediction_id"})
    connection.close()
    return found


def processes(port: int) -> set[int]:
    """The server's processes: one that died and was started again is another."""
    (listens, *_) = {c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid}
    first = psutil.Process(listens)
    while (parent := first.parent()) is not None and "bentoml" in " ".join(parent.cmdline()):
        first = parent
    return {first.pid, *(child.pid for child in first.children(recursive=True))}


def test_nothing_that_is_sent_is_answered_with_a_fault_of_ours(port, encode, as_dicom):
    """A 5xx is a bug that somebody will find, and then use; a crash takes everybody's service away."""
    before, alive = answers(port, encode), processes(port)
    with ThreadPoolExecutor(CLIENTS) as clients:
        found = list(clients.map(lambda client: attack(port, client, as_dicom), range(CLIENTS)))
    statuses = sum((one.statuses for one in found), Counter[int]())
    assert [fault for one in found for fault in one.faults] == []
    assert statuses.total() == REQUESTS
    assert {200, 400, 404, 405, 415, 421} <= set(statuses)
    assert not [status for status in statuses if status >= 500]
    assert statuses[0] < REQUESTS / 20, "most of them were answered"
    assert statuses[200] > REQUESTS / 20, "some of them were sound, so the model was reached"
    assert processes(port) == alive
    assert answers(port, encode) == before
