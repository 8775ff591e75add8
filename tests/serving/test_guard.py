"""Size, pace and number of bodies, the token, and who may ask at all."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from derm_ml.addresses import is_loopback
from derm_ml.registry import get_task
from serving.engine import THREADS
from serving.factory import make_service
from serving.guard import Guard, KnownPaths, Limits, Readiness
from serving.metrics import Metrics
from serving.tokens import Tokens

RAW = {"Content-Type": "application/octet-stream"}
METRICS = Metrics("derm_guard_tests")
TOKEN = "correct-horse-battery-staple-0123"


def dripping(parts: int, size: int = 1):
    """A body without Content-Length, in parts."""
    for _ in range(parts):
        yield b"x" * size


@pytest.mark.parametrize("claimed", [None, "10"])
def test_a_body_beyond_the_limit_is_413_whatever_its_header_claims(make_client, claimed):
    """Content-Length is a claim: a streamed upload without it, or with a lie, must not fill the memory."""
    client = make_client(body_bytes=1000)
    headers = RAW if claimed is None else {**RAW, "Content-Length": claimed}
    response = client.post("/predict", content=dripping(100, 100), headers=headers)
    assert response.status_code == 413
    assert response.json() == {"error": "the body has more than 0.000953674 MiB; send a smaller image"}
    assert response.headers["connection"] == "close"  # so that the rest is never read


def test_the_default_limit_is_10_mib_to_the_byte(client):
    over, at = (client.post("/predict", content=bytes(10 * 2**20 + more), headers=RAW) for more in (1, 0))
    assert (over.status_code, at.status_code) == (413, 400)  # at the limit it is read, and is no picture


def test_the_bytes_of_refused_and_of_answered_bodies_are_given_back(make_client, encode):
    """A budget that leaks would close the service after some hundred large uploads."""
    client = make_client(buffered_bytes=50_000, body_bytes=40_000)
    for _ in range(20):
        assert client.post("/predict", content=bytes(60_000), headers=RAW).status_code in (413, 503)
        assert client.post("/predict", content=encode(), headers=RAW).status_code == 200


def asgi_call(app, messages, path="/predict", headers=(), server=("127.0.0.1", 3000)):
    """One request spoken to an ASGI app directly: `messages` is an async iterator of body messages."""
    sent = []

    async def send(message):
        sent.append(message)

    async def go():
        feed = messages()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": list(headers), "server": server,
            "client": ("127.0.0.1", 1), "scheme": "http", "root_path": "",
        }  # fmt: skip
        await app(scope, feed.__anext__, send)

    asyncio.run(go())
    return sent


def guarded(app, token="", **limits):
    return Guard(app, Tokens(token), Limits(**limits), lambda _: Readiness(""))


def test_a_body_that_does_not_come_is_ended():
    """Otherwise a thousand idle connections hold a thousand requests for ever."""
    from starlette.exceptions import HTTPException

    async def silence():
        yield {"type": "http.request", "body": b"x", "more_body": True}
        await asyncio.sleep(3600)

    async def reader(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    guard = guarded(reader, body_seconds=0.05)
    with pytest.raises(HTTPException) as refused:
        asgi_call(guard, silence)
    assert refused.value.status_code == 408
    assert guard.buffered == 0


def test_more_pictures_than_may_wait_are_429_and_the_others_are_answered(make_client, encode, monkeypatch):
    """Overload must cost the newcomer a retry, not everybody their answer."""
    from derm_ml.tasks.lesion_classification import predict

    go, answer = threading.Event(), predict.answer

    def slow(*given_):
        assert go.wait(60)
        return answer(*given_)

    monkeypatch.setattr(predict, "answer", slow)
    client, body, statuses = make_client(waiting=3), encode(), []

    def ask():
        statuses.append(client.post("/predict", content=body, headers=RAW).status_code)

    askers = [threading.Thread(target=ask) for _ in range(THREADS + 3 + 5)]
    for asker in askers:
        asker.start()
    while len(statuses) < 5:  # the five that found the queue full
        time.sleep(0.01)
    go.set()
    for asker in askers:
        asker.join(60)
    assert sorted(statuses) == [200] * (THREADS + 3) + [429] * 5
    assert client.post("/predict", content=body, headers=RAW).status_code == 200


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é"],
)
def test_without_the_right_token_there_is_no_answer(make_client, encode, monkeypatch, header):
    monkeypatch.setenv("DERM_TOKEN", TOKEN)
    client = make_client(server="http://203.0.113.7:3000")
    headers = RAW if header is None else {**RAW, "Authorization": header.encode()}
    for path in ("/predict", "/explain"):
        response = client.post(path, content=encode(), headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/metrics", headers=headers).status_code == 401
    assert client.get("/", headers=headers).status_code == 401
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200  # probes hold no token


def test_the_right_token_opens(make_client, encode, monkeypatch):
    monkeypatch.setenv("DERM_TOKEN", TOKEN)
    client = make_client(server="http://203.0.113.7:3000")
    headers = {**RAW, "Authorization": f"Bearer {TOKEN}"}
    assert client.post("/predict", content=encode(), headers=headers).status_code == 200


def test_without_a_token_only_this_machine_is_answered(make_client, encode):
    """However the server was started: nobody serves the neighbourhood by mistake."""
    client = make_client(server="http://203.0.113.7:3000")
    response = client.post("/predict", content=encode(), headers=RAW)
    assert response.status_code == 403
    assert "DERM_TOKEN" in response.json()["error"]


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("::ffff:10.0.0.1", False), ("example.org", False),
     ("localhost.example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_world(host, local):
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:3000", 200), ("localhost:3000", 200), ("LOCALHOST", 200), ("[::1]:3000", 200), ("127.0.0.1", 200),
     ("evil.example:3000", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:3000", 421), ("", 421),
     ("[::1", 200), ("derm.example", 421)],
)  # fmt: skip
def test_a_page_whose_name_was_made_to_point_here_gets_no_answer(client, encode, host, status):
    """DNS rebinding: a web page open beside the service would otherwise read what it says of patients."""
    for path in ("/predict", "/explain"):
        response = client.post(path, content=encode(), headers={**RAW, "Host": host})
        assert response.status_code == status, response.text
    assert client.get("/livez", headers={"Host": host}).status_code == 200  # an orchestrator asks by its own names


def test_two_host_headers_are_one_too_many(client, encode):
    headers = [("Content-Type", "image/png"), ("Host", "127.0.0.1"), ("Host", "127.0.0.1")]
    assert client.post("/predict", content=encode(), headers=headers).status_code == 421


def test_names_that_are_listed_are_answered_and_no_others(make_client, encode, monkeypatch):
    monkeypatch.setenv("DERM_TOKEN", TOKEN)
    monkeypatch.setenv("DERM_HOSTS", "derm.example, 10.0.0.7")
    client = make_client(server="http://203.0.113.7:3000")
    headers = {**RAW, "Authorization": f"Bearer {TOKEN}"}
    for host, status in (("derm.example:443", 200), ("10.0.0.7", 200), ("other.example", 421)):
        assert client.post("/predict", content=encode(), headers={**headers, "Host": host}).status_code == status


def test_every_answer_has_an_id_and_a_trace_that_comes_along_is_kept(client, encode):
    """Support finds the log lines of one request by it, and an operator's tracing joins ours to theirs."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for given_, kept in ((f"00-{trace}-00f067aa0ba902b7-01", True), (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
                         ("jane_doe", False), (f"00-{trace.upper()}-00f067aa0ba902b7-01", False)):  # fmt: skip
        response = client.post("/predict", content=encode(), headers={**RAW, "traceparent": given_})
        found = response.headers["x-request-id"]
        assert (found == trace) is kept
        assert re.fullmatch("[0-9a-f]{32}", found)
    assert client.get("/nothing").headers["x-request-id"]


def test_refusals_are_counted_with_their_reason(make_client, encode):
    """Nobody sees in a rate of errors alone whether a client is broken or the service is full."""
    client = make_client(body_bytes=5000)
    name = client.app.metrics.namespace
    client.post("/predict", content=bytes(6000), headers=RAW)
    client.post("/predict", content=encode()[:200], headers=RAW)
    client.post("/predict", content=encode(), headers={"Content-Type": "text/plain"})
    client.get("/jane_doe")
    client.get("/", headers={"Host": "evil.example"})
    counted = {
        (status, reason): REGISTRY.get_sample_value(f"{name}_refusals_total", {"status": status, "reason": reason})
        for status, reason in (("413", "body_too_large"), ("400", "unusable_request"), ("415", "media_type"),
                               ("404", "unknown_path"), ("421", "host"))
    }  # fmt: skip
    assert set(counted.values()) == {1.0}, counted


@given(st.text(max_size=40))
def test_no_path_a_client_makes_up_reaches_the_layers_behind(path):
    """They keep one counter per path: made-up paths would fill the memory and the log."""
    seen = []

    async def behind(scope, receive, send):
        seen.append(scope["path"])
        await PlainTextResponse("")(scope, receive, send)

    async def nothing():
        yield {"type": "http.request", "body": b"", "more_body": False}

    asgi_call(KnownPaths(behind, METRICS), nothing, path=f"/x{path}")
    assert seen == ["/unknown"]


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 400))
def test_a_body_passes_whole_or_not_at_all(parts, limit):
    """However it is cut into parts, and whatever the limit: what passes is the body, byte for byte."""
    from starlette.exceptions import HTTPException

    got = []

    async def reader(scope, receive, send):
        more = True
        while more:
            message = await receive()
            got.append(message["body"])
            more = message["more_body"]

    async def feed():
        for part in parts:
            yield {"type": "http.request", "body": part, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    guard = guarded(reader, body_bytes=limit)
    body = b"".join(parts)
    if len(body) > limit:
        with pytest.raises(HTTPException):
            asgi_call(guard, feed)
    else:
        asgi_call(guard, feed)
        assert b"".join(got) == body
    assert len(b"".join(got)) <= limit
    assert guard.buffered == 0


@pytest.mark.parametrize(
    ("task", "absent", "there"), [("persistent_conditions", "/predict", "/match"), (None, "/match", "/predict")]
)
def test_a_path_of_another_kind_of_task_is_refused_as_every_other_is(make_client, task, absent, there):
    """It was answered in plain text by the framework, which no client of ours can read."""
    if task:
        service = make_service(get_task(task), None, name="guard_tests_pairs")
        client = TestClient(service.to_asgi(), base_url="http://127.0.0.1:3000")
    else:
        client = make_client()
    response = client.post(absent, content=b"x", headers=RAW)
    assert response.status_code == 404
    assert there in response.json()["error"]
    assert absent not in response.json()["error"]
