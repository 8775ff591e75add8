"""The token of the Dagster webserver: in a header for programs, in a session of some hours for a browser.

The session's cookie is not the token but an expiry signed with it: whoever reads the cookie cannot go on for ever, and
a new token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import time
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

SHORTEST_TOKEN = 32  # characters: 128 bits in hexadecimal, which nobody guesses
HOURS = 12  # of a session: a working day
LONGEST_BODY = 4096  # bytes of the login form; a token is a line
COOKIE = "derm_dagster_session"

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Log in to Dagster</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1d2733; max-width: 26rem; margin: 15vh auto; padding: 0 1rem; }}
input, button {{ font: inherit; width: 100%; padding: .5rem; box-sizing: border-box; margin-top: .5rem; }}
.why {{ color: #b3261e; }}
</style></head>
<body>
<h1>Log in to Dagster</h1>
<form method="post" action="{action}">
<label for="token">Token (DERM_DAGSTER_TOKEN of this server)</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input name="next" type="hidden" value="{next}">
<button>Log in</button>
</form>
<p class="why" role="alert">{why}</p>
</body>
</html>
"""


class Login:
    """Who is admitted, and (as an ASGI application at `path`) the page where a person shows the token."""

    def __init__(self, token: str, path: str) -> None:
        self._token, self.path = token.encode(), path

    def admits(self, asked: HTTPConnection) -> bool:
        """Whether a request carries the token, or a session that the token has signed and that is not over."""
        scheme, _, given = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self._token)
        until, _, signature = asked.cookies.get(COOKIE, "").partition(".")
        signed = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return signed and time.time() < int(until)

    def form(self, target: str, status: int = 200, why: str = "") -> Response:
        """The page that asks for the token and then goes to `target`."""
        page = _PAGE.format(action=self.path, next=html.escape(target, quote=True), why=html.escape(why))
        return HTMLResponse(page, status, {"Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(Request(scope, receive)) if scope["type"] == "http" else Response(status_code=404)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return self.form("/")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_BODY:
                return self.form("/", 413, "That was no token.")
        fields = parse_qs(body.decode("utf-8", "replace"))
        given, target = (fields.get(name, [""])[0] for name in ("token", "next"))
        if not hmac.compare_digest(given.strip().encode(), self._token):
            return self.form(target, 401, "That is not the token of this server.")
        until = str(int(time.time()) + HOURS * 3600)
        answer = RedirectResponse(_local(target), 303)
        answer.set_cookie(
            COOKIE,
            f"{until}.{self._signature(until)}",
            max_age=HOURS * 3600,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https:"),  # the browser says how it came here
        )
        return answer

    def _signature(self, until: str) -> str:
        return hmac.new(self._token, f"session until {until}".encode(), hashlib.sha256).hexdigest()


def _local(target: str) -> str:
    """`target` if it is a page of this server, else the first page: a link must not lead a login elsewhere."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
