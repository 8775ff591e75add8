"""Reports over HTTP: a read-only view of DERM_OUT, so that the links in Dagster open in the browser.

    link(places, folder / "report.html")     # metadata: /reports/lesion_classification/strong-…/report.html
    app = reports_app(places)                # ASGI; the server in front of Dagster mounts it at /reports

A link without a host is of the server the page came from: it holds behind any proxy. `DERM_REPORTS_URL` names another
place where the same folder is served. Browsers refuse `file://` from a page, and it means nothing on another machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import dagster as dg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derm_assets.resources.places import Places

URL = "DERM_REPORTS_URL"
DAGSTER_URL = "DERM_DAGSTER_URL"  # where people open Dagster; by default where `make dev` has it
MOUNTED_AT = "/reports"
SHOWN = frozenset({".html", ".png", ".jpg", ".csv", ".json"})  # what people look at; no weights, no checkpoints
_HEADERS = [
    # a report may run the script it brings along, as a page of no origin: it can ask no server for anything
    (b"content-security-policy", b"sandbox allow-scripts allow-popups allow-downloads"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),  # a report is written again under the same name
]


def link(places: Places, path: Path) -> dg.MetadataValue:
    """A link to a file below DERM_OUT; of a file elsewhere, or of a kind that is not shown, only its path."""
    out = Path(places.out).resolve()
    if path.suffix not in SHOWN or not path.resolve().is_relative_to(out):
        return dg.MetadataValue.path(path)
    base = os.environ.get(URL, MOUNTED_AT).rstrip("/")
    return dg.MetadataValue.url(f"{base}/{quote(path.resolve().relative_to(out).as_posix())}")


def dagster_url() -> str:
    """Where people open Dagster."""
    return os.environ.get(DAGSTER_URL, "").strip().rstrip("/") or "http://127.0.0.1:3001"


def reports_app(places: Places | None = None) -> ASGIApp:
    """GET and HEAD of the files below DERM_OUT that people look at; everything else is 404 or 405."""
    out = (places or Places.from_environment()).out
    files = _Reports(directory=out, check_dir=False)  # it appears with the first training
    return Starlette(routes=[Mount("/", files)], middleware=[Middleware(_Isolated)])


class _Reports(StaticFiles):
    """Starlette keeps requests below the folder and follows no link out of it."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        parts = Path(path).parts
        if Path(path).suffix not in SHOWN or any(part.startswith(".") for part in parts):
            raise HTTPException(404)
        return await super().get_response(path, scope)


class _Isolated:
    """Adds the headers that keep a report to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def isolated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self.app(scope, receive, isolated)
