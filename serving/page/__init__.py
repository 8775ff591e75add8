"""The page of a service and the API description for people: plain HTML, CSS and ES modules, without a build step.

Nothing comes from another server, and the browser is told to refuse anything that would (`POLICY`). The page itself
tells nothing about the model or a patient: it asks the API, with a token where one is set.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

ASSETS = {
    "style.css": "text/css",
    "app.js": "text/javascript",
    "api.js": "text/javascript",
    "image.js": "text/javascript",
    "options.js": "text/javascript",
    "boxes.js": "text/javascript",
    "results.js": "text/javascript",
    "table.js": "text/javascript",
    "tasks.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
FOLDER = "/page/"
# no inline script or style, no other server, no frame around it; images are shown from memory (blob:, data:)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


def wants_page(accept: str) -> bool:
    """Whether a client is a browser that navigates: it names HTML, which programs do not."""
    return any(kind.partition(";")[0].strip().lower() == "text/html" for kind in accept.split(","))


def is_page(path: str, accept: str) -> bool:
    """Whether a request is for the page, which holds nothing that a token protects, and not for what it shows."""
    return path.startswith(FOLDER) or (path in ("/", "") and wants_page(accept))  # "": before it is sent on to "/"


def start_page() -> Response:
    return HTMLResponse(_read("index.html"), headers=PAGE_HEADERS)


def docs_page(document: dict[str, Any]) -> Response:
    """An API description as HTML, every word of it escaped."""
    html = _templates.get_template("docs.html.j2").render(document=document, schemas=document["components"]["schemas"])
    return HTMLResponse(html, headers=PAGE_HEADERS)


def page_routes() -> list[Route]:
    """The style sheet, the modules and the icon."""
    return [Route(FOLDER + name, _asset, methods=["GET"]) for name in ASSETS]


async def _asset(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]  # a suite has them below each task too
    return Response(_read(name), media_type=ASSETS[name], headers={**PAGE_HEADERS, "Cache-Control": "no-cache"})


def _read(name: str) -> str:
    return (files("serving.page") / name).read_text(encoding="utf-8")


_templates = Environment(loader=PackageLoader("serving.page", "."), autoescape=True)
