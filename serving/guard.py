"""What stands between the network and the service: known paths, token, size and pace of bodies.

Two ASGI layers. `KnownPaths` is outermost, before BentoML's metrics and access log, so that neither ever holds
a path a client made up. `Guard` is inside them, so that every refusal is counted: it answers 401, 403, 404, 405
and hands the endpoints a `receive` that ends in 413, 408 or 503 when a body is too large, too slow, or one too many.
No header is trusted: bytes are counted as they arrive.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derm_ml.addresses import is_loopback

METHODS = {
    "/": ("GET", "HEAD"),
    "/predict": ("POST",),
    "/match": ("POST",),
    "/explain": ("POST",),
    "/similar": ("POST",),
    "/livez": ("GET", "HEAD"),
    "/healthz": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
}
PROBES = ("/livez", "/healthz", "/readyz")  # asked by orchestrators that hold no token; they tell nothing
UNKNOWN = "/unknown"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # answers are about a patient


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the service takes at once. The defaults suit one machine with 2 GB of memory or more."""

    body_bytes: int = 10 * 2**20
    body_seconds: float = 30.0  # 10 MiB over a 3 Mbit/s uplink; nobody honest needs longer
    buffered_bytes: int = 256 * 2**20  # all bodies together: 25 of the largest, 1000 phone pictures shrunk for upload
    waiting: int = 64  # pictures queued for the model; at ~0.2 s each on 2 cores the last waits ~6 s


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Every error there is: `{"error": sentence}`."""
    return JSONResponse({"error": sentence}, status, {**HEADERS, **(headers or {})})


class KnownPaths:
    """Renames every path the service does not have to `/unknown`, before anything logs or counts it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"] not in METHODS:
            scope = {**scope, "path": UNKNOWN, "raw_path": UNKNOWN.encode()}
        await self.app(scope, receive, send)


class Guard:
    """Refuses what is not for the service and meters the bodies of what is.

    `token` is the secret every request but the probes must carry as `Authorization: Bearer …`; without one only
    connections to a loopback address are answered. `unready` returns why there is no model, or "".
    """

    def __init__(self, app: ASGIApp, token: str, limits: Limits, unready: Callable[[], str]) -> None:
        self.app = app
        self.token = token.encode()
        self.limits = limits
        self.unready = unready
        self.buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refused = self._refuse(scope)
        if refused is not None:
            return await refused(scope, receive, send)
        body = _Body(self, receive)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.buffered -= body.size

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        path = scope["path"]
        if path not in PROBES and (refused := self._stranger(scope)) is not None:
            return refused
        if path not in METHODS:
            return refusal(404, f"there is no such path here; there are {', '.join(METHODS)}")
        if scope["method"] not in METHODS[path]:
            allowed = ", ".join(METHODS[path])
            return refusal(405, f"{path} takes {allowed} only", {"Allow": allowed})
        if path == "/readyz" and self.unready():
            return refusal(503, self.unready())
        return None

    def _stranger(self, scope: Scope) -> JSONResponse | None:
        if self.token:
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            scheme, _, secret = (given[0] if len(given) == 1 else b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(secret.strip(), self.token):
                sentence = "send the service's token in the header 'Authorization: Bearer …'"
                return refusal(401, sentence, {"WWW-Authenticate": "Bearer"})
            return None
        host, port = scope.get("server") or ("", None)
        if port is not None and not is_loopback(host):  # without a port it is a Unix socket, local by nature
            return refusal(403, "this service has no token and answers its own machine only; set DERM_TOKEN to open it")
        return None


class _Body:
    """The body of one request: counts its bytes against the limits and the time it takes."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.guard = guard
        self._receive = receive
        self.size = 0
        self.complete = False
        self.deadline: float | None = None

    async def receive(self) -> Message:
        if self.complete:  # what still comes is the client hanging up
            return await self._receive()
        limits, loop = self.guard.limits, asyncio.get_running_loop()
        if self.deadline is None:
            self.deadline = loop.time() + limits.body_seconds
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self._receive()
        except TimeoutError:
            raise _closing(408, f"the picture did not arrive within {limits.body_seconds:g} seconds") from None
        size = len(message.get("body", b""))
        self.size += size
        self.guard.buffered += size
        if self.size > limits.body_bytes:
            raise _closing(413, f"the body has more than {limits.body_bytes / 2**20:g} MiB; send a smaller picture")
        if self.guard.buffered > limits.buffered_bytes:
            raise _closing(503, "too many pictures are being received at once; try again in a moment", retry=True)
        self.complete = not message.get("more_body", False)
        return message


def _closing(status: int, sentence: str, retry: bool = False) -> HTTPException:
    """A refusal in the middle of a body: the connection ends with it, so that the rest is not read."""
    headers = {"Connection": "close", **({"Retry-After": "1"} if retry else {})}
    return HTTPException(status, sentence, headers)
