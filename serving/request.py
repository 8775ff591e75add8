"""What is known of the request under way: its id, who asked, why it was refused. Logs and metrics read it.

The outermost layer (`guard.KnownPaths`) makes one `Request` per request; everything that runs for it, in any thread
or task, finds it in `CURRENT`.
"""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar
from dataclasses import dataclass

# version "-" trace id "-" parent id "-" flags, as W3C Trace Context says; a trace id of zeros is invalid
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass
class Request:
    """One request. `id` is the trace id of its `traceparent` header if it has a valid one, else a new random one."""

    id: str
    caller: str = ""  # the name of its token, if tokens have names
    reason: str = ""  # one word why it was refused, empty if it was not


CURRENT: ContextVar[Request | None] = ContextVar("derm_request", default=None)


def begin(headers: list[tuple[bytes, bytes]]) -> Request:
    """A new current request."""
    given = [value for name, value in headers if name == b"traceparent"]
    traced = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    request = Request(traced[1].decode() if traced else uuid.uuid4().hex)
    CURRENT.set(request)
    return request


def because(reason: str) -> None:
    """Note why the current request is refused, for the log and the metrics."""
    request = CURRENT.get()
    if request is not None:
        request.reason = reason


def called(caller: str) -> None:
    """Note whose token the current request carries, for the log."""
    request = CURRENT.get()
    if request is not None:
        request.caller = caller
