"""Whose turn it is: small images, large ones, those who hang up and those who wait too long."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from starlette.exceptions import HTTPException

from derm_ml.registry import get_task
from serving.engine import THREADS
from serving.factory import make_service
from serving.guard import Limits
from serving.queue import AT_ONCE, FairQueue

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
LARGEST, PHONE, SMALL = 39_000_000, 12_000_000, 300_000
SIZES = (0, SMALL, PHONE, LARGEST)
CLIENTS = 60


def queue_of(threads: int = 2, places: int = 64, seconds: float = 60) -> FairQueue:
    return FairQueue(threads, places, seconds, lambda _: None)


class Work:
    """Pieces of work that run until they are let go, and the order in which they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.running: list[int] = []
        self.most = 0  # pixels at the same time
        self._go = {}
        self._lock = threading.Lock()

    def piece(self, name: str, pixels: int, held: bool = False):
        self._go[name] = threading.Event()
        if not held:
            self._go[name].set()

        def run() -> str:
            with self._lock:
                self.began.append(name)
                self.running.append(pixels)
                self.most = max(self.most, sum(self.running))
            assert self._go[name].wait(60)
            with self._lock:
                self.running.remove(pixels)
            return name

        return run

    def go(self, name: str) -> None:
        self._go[name].set()


async def until(true) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_a_small_image_does_not_wait_for_sixteen_of_the_largest():
    """Sixteen legal PNGs of 300 kB each kept everybody else away for a minute."""

    async def go() -> None:
        queue, work = queue_of(), Work()
        large = [
            asyncio.create_task(queue.run(work.piece(f"large {n}", LARGEST, held=True), LARGEST)) for n in range(16)
        ]
        await until(lambda: work.began)
        assert await queue.run(work.piece("small", SMALL), SMALL) == "small"
        assert work.began == ["large 0", "small"]  # fifteen are still waiting, one is held
        for n in range(16):
            work.go(f"large {n}")
        assert sorted(await asyncio.gather(*large)) == sorted(f"large {n}" for n in range(16))
        assert work.most <= AT_ONCE

    asyncio.run(go())


def test_a_small_image_overtakes_large_ones_that_came_before_it_and_a_large_one_has_its_turn():
    async def go() -> None:
        queue, work = queue_of(threads=1), Work()
        first = asyncio.create_task(queue.run(work.piece("first", SMALL, held=True), SMALL))
        await until(lambda: work.began)
        others = [
            asyncio.create_task(queue.run(work.piece(name, pixels), pixels))
            for name, pixels in (("large", LARGEST), ("phone", PHONE), ("small", SMALL))
        ]
        await asyncio.sleep(0)
        work.go("first")
        await asyncio.gather(first, *others)
        assert work.began == ["first", "small", "phone", "large"]

    asyncio.run(go())


def test_who_waits_too_long_is_told_to_come_back():
    async def go() -> None:
        queue, work = queue_of(threads=1, seconds=0.02), Work()
        first = asyncio.create_task(queue.run(work.piece("first", SMALL, held=True), SMALL))
        await until(lambda: work.began)
        with pytest.raises(HTTPException) as refused:
            await queue.run(work.piece("second", SMALL), SMALL)
        assert refused.value.status_code == 503
        assert refused.value.headers["Retry-After"]
        work.go("first")
        await first
        assert work.began == ["first"]
        assert await queue.run(work.piece("third", SMALL), SMALL) == "third"

    asyncio.run(go())


@given(
    st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(["stay", "leave", "fail"])), max_size=12),
    st.integers(1, 4),
)
def test_whatever_comes_and_goes_every_place_is_given_back(requests, threads):
    """A place that is lost with each cancelled request would close the service after sixty of them."""

    async def go() -> None:
        queue, began = queue_of(threads), []

        def work(number: int, what: str) -> int:
            began.append(number)
            if what == "fail":
                raise ValueError("a bad image")
            return number

        tasks = [
            asyncio.create_task(queue.run(lambda n=n, what=what: work(n, what), pixels))
            for n, (pixels, what) in enumerate(requests)
        ]
        await asyncio.sleep(0)
        for task, (_, what) in zip(tasks, requests, strict=True):
            if what == "leave":
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (result, (_, what)) in enumerate(zip(results, requests, strict=True)):
            if what == "stay":
                assert result == number
            else:
                assert isinstance(result, ValueError if what == "fail" else asyncio.CancelledError)
        assert queue.idle
        assert await queue.run(lambda: "next", LARGEST) == "next"

    asyncio.run(go())


@pytest.fixture
def slow(bundle, monkeypatch) -> Iterator[tuple[int, str, threading.Event, list[int]]]:
    """A real server whose model waits for an event: (port, metrics' name, event, one entry an image computed)."""
    from derm_ml.tasks.lesion_classification import predict

    go, computed, answer = threading.Event(), [], predict.answer

    def waits(*given_):
        computed.append(1)
        assert go.wait(60)
        return answer(*given_)

    monkeypatch.setattr(predict, "answer", waits)
    name = f"{TASK}_abandoned"
    service = make_service(get_task(TASK), bundle, name=name, limits=Limits(waiting=CLIENTS))
    server = uvicorn.Server(uvicorn.Config(service.to_asgi(), port=0, log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield listening.getsockname()[1], name, go, computed
        finally:
            go.set()
            server.should_exit = True
            thread.join(30)


def test_nothing_is_computed_for_clients_that_have_hung_up(slow, encode):
    """Sixty closed browser tabs made the next patient wait for sixty answers that nobody read."""
    port, name, go, computed = slow
    body = encode("JPEG")
    request = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for client in clients:
        client.sendall(request % len(body) + body)
    waiting = f"derm_{name}_waiting"
    abandoned = (f"derm_{name}_refusals_total", {"status": "499", "reason": "abandoned"})
    wait_for(CLIENTS - THREADS, waiting)
    for client in clients:
        client.close()
    wait_for(CLIENTS - THREADS, *abandoned)
    go.set()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request % len(body) + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert len(computed) == THREADS + 1


def wait_for(value: float, *sample) -> None:
    """Until a metric has that value."""
    deadline = time.monotonic() + 60
    while (found := REGISTRY.get_sample_value(*sample)) != value:
        assert time.monotonic() < deadline, f"{sample} stays at {found}, expected {value}"
        time.sleep(0.01)
