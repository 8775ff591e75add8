"""What stands between the network and the service: known paths, host, token, bodies, hang-ups.

Two ASGI layers. `KnownPaths` is outermost, before BentoML's metrics, traces and access log, so that none of them ever
holds a path a client made up, or the parameters of a question, which are about a person; it gives each request its id
and counts why it was refused. `Guard` is inside them: it answers
401, 403, 404, 405, 421 and hands the endpoints a `receive` that ends in 413, 408 or 503 when a body is too large, too
slow, or one too many. A client that hangs up ends its request, which then gives up its place in the queue.
No header is trusted: bytes are counted as they arrive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derm_ml.addresses import is_loopback
from serving.metrics import Metrics
from serving.page import ASSETS, FOLDER, is_page
from serving.request import because, begin, called
from serving.tokens import Patience, Tokens

METHODS = {
    "/": ("GET", "HEAD"),
    "/docs": ("GET", "HEAD"),
    "/openapi.json": ("GET", "HEAD"),
    "/predict": ("POST",),
    "/match": ("POST",),
    "/explain": ("POST",),
    "/similar": ("POST",),
    "/livez": ("GET", "HEAD"),
    "/healthz": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
    **{FOLDER + name: ("GET", "HEAD") for name in ASSETS},
}
QUESTIONS = ("/match", "/predict")  # each task is asked at one of them
PROBES = ("/livez", "/healthz", "/readyz")  # asked by orchestrators that hold no token; they tell nothing
UNKNOWN = "/unknown"
QUERY = "derm.query"  # where a scope holds its parameters from `KnownPaths` to `Guard`
GONE = 499  # nobody reads it; it tells abandoned requests apart in the metrics, as nginx does
REASONS = {  # of refusals whose place in the code gives no nearer one
    400: "unusable_request", 401: "token", 403: "not_local", 404: "unknown_path", 405: "method", 408: "slow_body",
    413: "body_too_large", 415: "media_type", 421: "host", 429: "queue_full", GONE: "abandoned", 500: "failure",
    503: "unavailable", 504: "timeout",
}  # fmt: skip
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # answers are about a patient


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the service takes at once. The defaults suit one machine with 2 GB of memory or more."""

    body_bytes: int = 10 * 2**20
    body_seconds: float = 30.0  # 10 MiB over a 3 Mbit/s uplink; nobody honest needs longer
    buffered_bytes: int = 256 * 2**20  # all bodies together: 25 of the largest, 1000 phone pictures shrunk for upload
    waiting: int = 64  # pictures queued for the model; at ~0.2 s each on 2 cores the last waits ~6 s
    waiting_seconds: float = 20.0  # three times that: who waits longer is better off asking again later


logger = logging.getLogger("bentoml.serving")


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Every error there is: `{"error": sentence}`."""
    return JSONResponse({"error": sentence}, status, {**HEADERS, **(headers or {})})


Methods = Mapping[str, tuple[str, ...]]  # of each path that a service has


def methods_of(question: str) -> Methods:
    """The paths of a service whose task is asked at `question`."""
    return {path: methods for path, methods in METHODS.items() if path == question or path not in QUESTIONS}


def methods_of_suite(questions: Mapping[str, str]) -> Methods:
    """The paths of a suite: its own, and below each task's name those of the task; `questions` by task."""
    own = {path: METHODS[path] for path in METHODS if path not in (*QUESTIONS, "/explain", "/similar")}
    below = {f"/{task}": METHODS["/"] for task in questions}
    for task, question in questions.items():
        below |= {f"/{task}{path}": methods for path, methods in methods_of(question).items()}
    return {**own, **below}


def task_and_rest(path: str, tasks: Collection[str]) -> tuple[str, str]:
    """The task of a suite that a path belongs to, and the path below it; ("", path) for every other path."""
    first, slash, rest = path[1:].partition("/")
    return (first, slash + rest) if first in tasks else ("", path)


class KnownPaths:
    """Renames every path the service does not have to `/unknown`, and puts the query string aside for `Guard`, before
    anything logs, counts or traces them: a trace holds the whole address, and an age and a sex in it.

    Every answer carries the request's id as `X-Request-Id`; every refusal is counted with its reason, in a suite by the
    metrics `of_task` its path is of.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, methods: Methods = METHODS, of_task: Mapping[str, Metrics] | None = None
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.methods = methods
        self.of_task = of_task or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"] not in self.methods:
            scope = {**scope, "path": UNKNOWN, "raw_path": UNKNOWN.encode()}
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope = {**scope, "query_string": b"", QUERY: scope["query_string"]}
        request = begin(scope["headers"])
        task, path = task_and_rest(scope["path"], self.of_task)

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request.id.encode())]}
                if (status := message["status"]) >= 400 and path not in PROBES:
                    request.reason = request.reason or REASONS.get(status, "other")
                    self.of_task.get(task, self.metrics).refusals.labels(status, request.reason).inc()
            await send(message)

        await self.app(scope, receive, identified)


@dataclass(frozen=True, slots=True)
class Readiness:
    """`unready` says why there is no model, `refused` why the newest release is not served; empty if all is well."""

    unready: str
    refused: str = ""


class Guard:
    """Refuses what is not for the service, meters the bodies of what is, and ends what nobody waits for any more.

    Every request but the probes must carry one of `tokens` as `Authorization: Bearer …`; without any token only
    connections to a loopback address are answered, and only under a name of this machine: a page in a browser whose
    own name was made to point here (DNS rebinding) sends its own. `hosts` are further names that are right; `methods`
    those of each path there is. A suite names its `tasks`: `readiness` is asked for one of them, or for "".
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        limits: Limits,
        readiness: Callable[[str], Readiness],
        hosts: Collection[str] = (),
        methods: Methods = METHODS,
        tasks: Collection[str] = (),
    ) -> None:
        self.app = app
        self.tokens = tokens
        self.limits = limits
        self.readiness = readiness
        self.hosts = frozenset(host.lower() for host in hosts)
        self.methods = methods
        self.tasks = frozenset(tasks)
        self.patience = Patience()
        self.buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope = {**scope, "query_string": scope.get(QUERY, scope["query_string"])}
        answer = await self._refuse(scope) or self._probe(scope)
        if answer is not None:
            return await answer(scope, receive, send)
        task, path = task_and_rest(scope["path"], self.tasks)
        if task and path in (*PROBES, "/metrics"):  # of a suite they are those of its one process
            scope = {**scope, "path": path, "raw_path": path.encode()}
        body = _Body(self, receive)
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        with anyio.CancelScope() as request:
            body.hung_up = lambda: None if begun else request.cancel()
            try:
                await self.app(scope, body.receive, noted)
            finally:
                body.end()
                self.buffered -= body.size
        if request.cancelled_caught:
            because("abandoned")
            logger.info("the client hung up before its turn; nothing was computed for it")
            await refusal(GONE, "the client hung up")(scope, receive, send)

    async def _refuse(self, scope: Scope) -> JSONResponse | None:
        path = scope["path"]
        if task_and_rest(path, self.tasks)[1] not in PROBES and (refused := await self._stranger(scope)) is not None:
            return refused
        if path not in self.methods:
            told = ", ".join(known for known in self.methods if FOLDER not in known)
            return refusal(404, f"there is no such path here; there are {told}")
        if scope["method"] not in self.methods[path]:
            allowed = ", ".join(self.methods[path])
            return refusal(405, f"{path} takes {allowed} only", {"Allow": allowed})
        return None

    def _probe(self, scope: Scope) -> JSONResponse | None:
        """The answer to /readyz. A refused release does not make a service unready: the model before goes on."""
        task, path = task_and_rest(scope["path"], self.tasks)
        if path != "/readyz":
            return None
        found = self.readiness(task)
        if found.unready:
            because("no_model")
            return refusal(503, found.unready)
        return JSONResponse({"ready": True, "release": found.refused or "served"}, headers=HEADERS)

    async def _stranger(self, scope: Scope) -> JSONResponse | None:
        if not self._host_is_ours(scope):
            sentence = "the Host header names another host; use this machine's own, or list it in DERM_HOSTS"
            return refusal(421, sentence)
        if self.tokens:
            accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
            if is_page(task_and_rest(scope["path"], self.tasks)[1], accept.decode("latin-1")):
                return None  # it holds nothing of the model; what it asks for needs the token
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            scheme, _, secret = (given[0] if len(given) == 1 else b"").partition(b" ")
            name = self.tokens.name_of(secret.strip()) if scheme.lower() == b"bearer" else ""
            if name:
                called(name)
                return None
            if not await self.patience.hold((scope.get("client") or ("", 0))[0]):
                because("token_guessing")
                return refusal(429, "too many wrong tokens; try again later", {"Retry-After": "60"})
            sentence = "send the service's token in the header 'Authorization: Bearer …'"
            return refusal(401, sentence, {"WWW-Authenticate": "Bearer"})
        host, port = scope.get("server") or ("", None)
        if port is not None and not is_loopback(host):  # without a port it is a Unix socket, local by nature
            return refusal(403, "this service has no token and answers its own machine only; set DERM_TOKEN to open it")
        return None

    def _host_is_ours(self, scope: Scope) -> bool:
        """Where a list is given, it decides. Else only a service without tokens asks: no token, no stranger's page."""
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) > 1:
            return False
        if not given or (self.tokens and not self.hosts):  # every browser sends one
            return True
        host = host_name(given[0].decode("latin-1"))
        server, port = scope.get("server") or ("", None)
        local = port is None or is_loopback(server)
        return host in self.hosts or (local and is_loopback(host)) or (not local and not self.hosts)


def host_name(header: str) -> str:
    """The host of a Host header without its port: `[::1]:3000` → `::1`."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


class _Body:
    """The body of one request: counts its bytes against the limits and the time it takes.

    Once it is complete, all that can still come is the client hanging up: `hung_up` is called then.
    """

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.guard = guard
        self._receive = receive
        self.size = 0
        self.deadline: float | None = None
        self.hung_up: Callable[[], None] = lambda: None
        self._watch: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        if self._watch is not None:
            return await asyncio.shield(self._watch)
        limits, loop = self.guard.limits, asyncio.get_running_loop()
        if self.deadline is None:
            self.deadline = loop.time() + limits.body_seconds
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self._receive()
        except TimeoutError:
            raise _closing(408, f"the image did not arrive within {limits.body_seconds:g} seconds") from None
        size = len(message.get("body", b""))
        self.size += size
        self.guard.buffered += size
        if self.size > limits.body_bytes:
            raise _closing(413, f"the body has more than {limits.body_bytes / 2**20:g} MiB; send a smaller image")
        if self.guard.buffered > limits.buffered_bytes:
            because("too_many_bodies")
            raise _closing(503, "too many images are being received at once; try again in a moment", retry=True)
        if not message.get("more_body", False):
            self._watch = asyncio.create_task(self._until_gone())
        return message

    async def _until_gone(self) -> Message:
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self.hung_up()
        return message

    def end(self) -> None:
        """The request is over: nobody needs to know any more."""
        if self._watch is not None:
            self._watch.cancel()


def _closing(status: int, sentence: str, retry: bool = False) -> HTTPException:
    """A refusal in the middle of a body: the connection ends with it, so that the rest is not read."""
    headers = {"Connection": "close", **({"Retry-After": "1"} if retry else {})}
    return HTTPException(status, sentence, headers)
