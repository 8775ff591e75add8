"""A client that never finishes its headers does not keep its connection."""

from __future__ import annotations

import socket
import time

import pytest
from starlette.responses import PlainTextResponse

from serving import slow_headers


async def echo(scope, receive, send):
    """Answers with the body, when it has come whole."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await PlainTextResponse(body or b"here")(scope, receive, send)


@pytest.fixture
def port(monkeypatch, listening):
    """A uvicorn server as BentoML makes it, with a shorter deadline."""
    monkeypatch.setattr(slow_headers, "SECONDS", 0.3)
    slow_headers.install()
    with listening(echo, lifespan="off") as port:
        yield port


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-One: 1\r\n"])
def test_headers_that_never_end_are_ended(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(sent)
        assert client.recv(100) == b""  # closed by the server


def test_the_second_request_of_a_connection_has_the_same_deadline(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(1000).endswith(b"here")
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert client.recv(100) == b""


def test_a_slow_body_is_not_its_business(port):
    """Bodies have a deadline of their own, three times as long: a phone on a slow network takes its time."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nsl")
        time.sleep(3 * slow_headers.SECONDS)
        client.sendall(b"ow")
        assert client.recv(1000).endswith(b"slow")
