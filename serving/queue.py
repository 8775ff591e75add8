"""Whose turn it is: a bounded queue before the model's threads, in which a small image does not wait for large ones.

Order of turns: time of arrival plus `SECONDS` for every megapixel. So an image of 39 megapixels is overtaken by small
ones that come up to ten seconds later, and by none after that: nothing waits for ever. Large images take one thread
less than there are and share a budget of pixels, which bounds the memory of decoding. Who hangs up leaves the queue
and is not computed; who has waited too long is told to come back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException

from serving.request import because

SECONDS = 0.25  # a megapixel's handicap, about what decoding and shrinking it takes on a slow core
LARGE = 16_000_000  # pixels; phone photos have 12 million and are the ordinary case
AT_ONCE = 48_000_000  # pixels being decoded at the same time: one of the largest and a phone photo, some 400 MB

T = TypeVar("T")


@dataclass(slots=True)
class _Waiting:
    turn: float
    pixels: int
    go: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairQueue:
    """At most `threads` pieces of work run, at most `places` wait, none longer than `seconds`.

    `changed` is told how many wait whenever that changes.
    """

    def __init__(self, threads: int, places: int, seconds: float, changed: Callable[[int], None]) -> None:
        self.threads, self.places, self.seconds = threads, places, seconds
        self._changed = changed
        self._waiting: list[_Waiting] = []
        self._running: list[int] = []  # the pixels of each
        self._limiter: anyio.CapacityLimiter | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def admit(self, pixels: int = 0) -> None:
        """Raises a 429 if as many wait as may and an image of so many pixels would have to wait too."""
        if len(self._waiting) >= self.places and not self._fits(pixels):
            because("queue_full")
            raise HTTPException(429, "too many images are waiting; try again in a moment", {"Retry-After": "1"})

    async def run(self, work: Callable[[], T], pixels: int = 0) -> T:
        """Run `work` in a thread when its turn has come. Raises what `work` raises, a 429, or a 503 after `seconds`."""
        self.admit(pixels)
        if self._limiter is None:  # needs the running event loop
            self._limiter = anyio.CapacityLimiter(self.threads)
        await self._turn(pixels)
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._running.remove(pixels)
            self._next()

    async def _turn(self, pixels: int) -> None:
        """Returns when `pixels` has been moved to those that run."""
        me = _Waiting(asyncio.get_running_loop().time() + SECONDS * pixels / 1e6, pixels)
        self._waiting.append(me)
        self._next()
        try:
            async with asyncio.timeout(self.seconds):
                await me.go
        except BaseException as error:
            if me in self._waiting:
                self._waiting.remove(me)
            else:  # its turn came in the same instant
                self._running.remove(pixels)
            self._next()
            if isinstance(error, TimeoutError):
                because("waited_too_long")
                sentence = f"no turn within {self.seconds:g} seconds, the service is busy; try again later"
                raise HTTPException(503, sentence, {"Retry-After": str(math.ceil(self.seconds / 4))}) from None
            raise

    def _next(self) -> None:
        """Give a turn to everyone who may have one now."""
        for one in sorted(self._waiting, key=lambda waiting: waiting.turn):
            if self._fits(one.pixels) and not one.go.done():  # done: its request was cancelled a moment ago
                self._waiting.remove(one)
                self._running.append(one.pixels)
                one.go.set_result(None)
        self._changed(len(self._waiting))

    def _fits(self, pixels: int) -> bool:
        if len(self._running) >= self.threads:
            return False
        large = sum(1 for running in self._running if running > LARGE)
        if pixels > LARGE and large >= max(1, self.threads - 1):
            return False
        return not self._running or sum(self._running) + pixels <= AT_ONCE
