"""Ends connections that do not finish their headers in time: uvicorn itself waits for them without limit.

A client that opens connections and sends a header line a minute would otherwise hold each of them for ever.
`install` puts the protocol below in the place of the one uvicorn chooses by itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.auto import AutoHTTPProtocol

SECONDS = 10.0  # from the opening of the connection, or the first byte of a later request, to the end of the headers
_Protocol: Any = AutoHTTPProtocol  # httptools where it is installed, else h11: both keep the request in `cycle`


class ImpatientProtocol(_Protocol):
    """HTTP/1.1 of uvicorn, with a limit on the time headers take."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(SECONDS, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        if self._timer is None and before is not None and before.response_complete:
            self._timer = self.loop.call_later(SECONDS, self._end)
        super().data_received(data)
        if self.cycle is not before:  # it is made when the headers are complete
            self._complete()

    def _complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


def install() -> None:
    """Let every uvicorn server of this process that is started from now on use it."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{ImpatientProtocol.__name__}"
