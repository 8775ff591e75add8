"""What stands between a browser and the Dagster webserver: an ASGI layer that decides who may ask what.

Dagster answers any Host, runs mutations sent by GET, and asks nobody for a password: any page open in the same browser
could start a training or switch a sensor on. In this order, each refusal one sentence:

    Host             one of the names this server has           421   DNS rebinding
    Origin, site     the page that asks is one of ours          403   other web pages, other ports of this machine
    login            where a token is set                       401   other people
    method, body     mutations as POST of JSON, nothing by GET  405, 415

Opening a link from elsewhere (a chat, a mail) to a page of Dagster works: it only shows. Reports below /reports are
HTML about data from outside, so they are isolated: no report can ask Dagster for anything.
Nothing here knows Dagster; `webserver.py` puts the two together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derm_assets.login import SHORTEST_TOKEN, Login
from derm_ml import DermError
from derm_ml.addresses import is_loopback
from derm_ml.escape import visible
from derm_ml.places import environment

HOSTS, TOKEN = "DERM_DAGSTER_HOSTS", "DERM_DAGSTER_TOKEN"
GRAPHQL, REPORTS, LOGIN = "/graphql", "/reports", "/login"

# Dagster's own policy restricts scripts; this one adds that no other site may frame the page or be contacted by it: an
# image of another host in some text would tell that host who looks at what.
PAGE_POLICY = (
    "frame-ancestors 'none'; frame-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self'; connect-src 'self' blob: ws://{host} wss://{host}"
)
# A report may run the script it brings along (the map of embeddings does), but as a page of no origin: to Dagster it is
# a stranger, and it can load nothing from anywhere.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; img-src data: blob:; font-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)
CLOSED_POLICY = "default-src 'none'; frame-ancestors 'none'"  # of a refusal
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # a run's name in an address is nobody else's business
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class GuardError(DermError, ValueError):
    """The settings do not protect the server: it does not start."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Under which names the server is known (`host` or `host:port`, as a browser writes them), and its token.

    Raises `GuardError` for a token that can be guessed.
    """

    hosts: frozenset[str]
    token: str = ""

    def __post_init__(self) -> None:
        if self.token and len(self.token) < SHORTEST_TOKEN:
            raise GuardError(
                f"{TOKEN} has {len(self.token)} characters and can be guessed: make one of {SHORTEST_TOKEN} or more, "
                "e.g. with `openssl rand -hex 32`"
            )

    @classmethod
    def from_environment(cls, host: str, port: int) -> Rules:
        """Those of a server that listens on `host:port`. Raises `GuardError` where the network could ask it freely."""
        token = os.environ.get(TOKEN, "").strip()
        if not is_loopback(host) and not token:
            raise GuardError(
                f"on {host} everybody in the network could operate Dagster: set {TOKEN} (32 characters or more), or "
                "listen on 127.0.0.1 behind a proxy that asks for a login (docs/security.md)"
            )
        names = {"127.0.0.1", "localhost", "[::1]"}
        if host not in ("0.0.0.0", "::"):
            names.add(f"[{host}]" if ":" in host else host)
        added = {name.strip().lower() for name in os.environ.get(HOSTS, "").split(",") if name.strip()}
        return cls(frozenset({f"{name}:{port}" for name in names} | added), token)


def authorization() -> dict[str, str]:
    """The header with which a program asks the server of this project: the token as the server reads it."""
    token = environment().get(TOKEN, "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


class Refused(Exception):
    """A request that goes no further: the status, and one sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """`app` behind the rules; `reports`, where there is one, is served below /reports."""

    def __init__(self, app: ASGIApp, rules: Rules, reports: ASGIApp | None = None) -> None:
        self.app, self.rules, self.reports = app, rules, reports
        self.login = Login(rules.token, LOGIN) if rules.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # start and stop of the server
            return await self.app(scope, receive, send)
        asked = HTTPConnection(scope)
        report = self.reports is not None and scope["path"].startswith(f"{REPORTS}/")
        try:
            host = self._host(asked)
            answer = self._answer(asked, host, report)
        except Refused as refused:
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008, "reason": str(refused)})
            host, answer = "", PlainTextResponse(visible(str(refused)), refused.status)
        policy = REPORT_POLICY if report else PAGE_POLICY.format(host=host) if host else CLOSED_POLICY
        await answer(scope, receive, _with_headers(send, policy, alone=report))

    def _host(self, asked: HTTPConnection) -> str:
        host = (_only(asked, "host") or "").lower()
        if host not in self.rules.hosts:
            raise Refused(421, f"this server is not called '{host}': add the name to {HOSTS} if it should be")
        return host

    def _answer(self, asked: HTTPConnection, host: str, report: bool) -> ASGIApp:
        """What answers the request. Raises `Refused`."""
        _refuse_foreign(asked, host)
        scope, path = asked.scope, asked.scope["path"]
        if self.login and path == LOGIN:
            return self.login
        if self.login and not self.login.admits(asked):
            if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in asked.headers.get("accept", ""):
                return self.login.form(path, 401)
            raise Refused(401, f"log in at {LOGIN}, or send the token in the header 'Authorization: Bearer …'")
        if scope["type"] == "websocket":
            return self.app
        _refuse_unsafe(asked)
        if path == GRAPHQL and scope["method"] == "GET":  # the page to try queries; one in its address is not run
            scope["query_string"] = b""
        if self.reports is not None and path == REPORTS:
            return RedirectResponse(f"{REPORTS}/")
        if self.reports is not None and report:
            scope["root_path"] = REPORTS
            return self.reports
        return self.app


def _only(asked: HTTPConnection, name: str) -> str | None:
    """The header, if it is there. Two of them are read differently by every server: `Refused`."""
    found = asked.headers.getlist(name)
    if len(found) > 1:
        raise Refused(400, f"the header {name} was sent {len(found)} times; send it once")
    return found[0] if found else None


def _refuse_foreign(asked: HTTPConnection, host: str) -> None:
    """Refuse what another page had the browser send. A browser names that page's origin with everything that can
    change something and with every WebSocket, and newer ones say of everything where it came from (Sec-Fetch-*).
    A program that is no browser sends none of them and may ask, if it has the token."""
    origin, site = _only(asked, "origin"), _only(asked, "sec-fetch-site")
    websocket = asked.scope["type"] == "websocket"
    reading = not websocket and asked.scope["method"] in ("GET", "HEAD")
    if (websocket or origin is not None) and not _same_origin(origin or "", host):
        raise Refused(403, f"pages of '{origin or 'no origin'}' may not ask this server: open {host} itself")
    referer = _only(asked, "referer")
    if not reading and origin is None and referer is not None and not _same_origin(referer, host):
        raise Refused(403, "a page of another site may not ask this server for anything: open it here")
    opened = reading and (_only(asked, "sec-fetch-mode"), _only(asked, "sec-fetch-dest")) == ("navigate", "document")
    if site not in (None, "same-origin", "none") and not opened:
        raise Refused(403, "a page of another site may link to this server, but not load anything from it")


def _same_origin(address: str, host: str) -> bool:
    """Whether an origin or address is of `host`. The scheme is the proxy's affair: behind TLS we are asked by http."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host


def _refuse_unsafe(asked: HTTPConnection) -> None:
    method, path = asked.scope["method"], asked.scope["path"]
    if method not in ("GET", "HEAD", "POST"):
        raise Refused(405, f"{method} is not used here; GET shows, POST changes")
    if method == "POST":
        # a form of another site can send only three other types without being asked about first
        kind = (_only(asked, "content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, f"POST with Content-Type application/json, not '{kind}'")
    elif path == GRAPHQL and "text/html" not in asked.headers.get("accept", ""):
        raise Refused(405, "GraphQL is asked by POST with Content-Type application/json, nothing is run by GET")


def _with_headers(send: Send, policy: str, alone: bool) -> Send:
    """`send`, with the headers every answer has; `policy` is added to the app's own or, `alone`, replaces it."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if alone:
                del headers["Content-Security-Policy"]
            headers.append("Content-Security-Policy", policy)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return guarded
