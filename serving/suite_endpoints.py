"""The paths of a suite: `GET /` with its tasks, one API description of all, and below `/<task>/` those of each task."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from derm_ml import RESEARCH_USE
from derm_ml.asking.answers import Said
from serving.answers import AnswerModels
from serving.endpoints import application
from serving.guard import HEADERS, PROBES
from serving.openapi import described_suite, document
from serving.page import docs_page, is_page, page_routes, start_page, wants_page
from serving.released import remembered_of
from serving.suite import STATES, Suite


class SuiteTask(Said):
    """One task of a suite."""

    task: str
    title: str
    address: str = Field(description="where its paths lie, below that of the suite")
    state: str = Field(description=f"one of {', '.join(STATES)}", json_schema_extra={"enum": list(STATES)})
    bento: str = Field(description="tag of the Bento that answers, or is loaded when it is asked; empty without one")
    model_version: str = Field(description="of that Bento; empty where it is not known before it is loaded")
    why: str = Field(description="what there is to say about the state, and what to do; empty if nothing")


class SuiteCard(Said):
    """Which tasks one process serves, and which of their models are in memory."""

    title: str
    tasks: list[SuiteTask]
    models_kept: int = Field(description="how many models stay in memory")
    ready: bool = Field(description="whether any task can be asked")
    paths: list[str]
    research_use: str


OWN = ("/", "/docs", "/openapi.json", *PROBES, "/metrics")


def suite_card(suite: Suite) -> dict[str, Any]:
    """The answer of `GET /` to programs."""
    said = SuiteCard(
        title="derm",
        tasks=[_task(suite, name) for name in suite.places],
        models_kept=suite.kept,
        ready=not suite.readiness("").unready,
        paths=list(OWN),
        research_use=RESEARCH_USE,
    )
    return said.model_dump(mode="json")


def _task(suite: Suite, name: str) -> SuiteTask:
    found, engine = suite.standing(name), suite.places[name].engine
    version = engine.predictor.bundle.version if engine.predictor else ""
    return SuiteTask(
        task=name,
        title=engine.task.title,
        address=f"{name}/",
        state=found.state,
        bento=found.bento,
        model_version=version or (found.bento and remembered_of(name, found.bento).get("model_version", "")),
        why=found.why,
    )


def suite_application(suite: Suite) -> Starlette:
    """All paths of a suite."""

    async def start(request: Request) -> Response:
        if wants_page(request.headers.get("accept", "")):
            return start_page()
        return JSONResponse(suite_card(suite), headers=HEADERS)

    async def openapi(_: Request) -> Response:
        return JSONResponse(suite_document(suite), headers=HEADERS)

    async def docs(_: Request) -> Response:
        return docs_page(suite_document(suite))

    below: list[BaseRoute] = []
    for name in suite.places:
        below += [Route(f"/{name}", _to_folder, methods=["GET"]), Mount(f"/{name}", _OnUse(suite, name))]
    return Starlette(
        routes=[
            Route("/", start, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/docs", docs, methods=["GET"]),
            *page_routes(),
            *below,
        ]
    )


def suite_document(suite: Suite) -> dict[str, Any]:
    """The API description of a suite: of its own paths, and of each task's with its name before paths and schemas."""
    of_tasks = {
        name: document(place.engine, AnswerModels.of(place.engine.task)) for name, place in suite.places.items()
    }
    return described_suite(of_tasks, SuiteCard)


class _OnUse:
    """The application of one task, with its model in memory whenever a request needs one."""

    def __init__(self, suite: Suite, task: str) -> None:
        self.suite = suite
        self.task = task
        self.app: ASGIApp = application(suite.places[task].engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        if is_page(scope["path"].removeprefix(f"/{self.task}"), accept):
            return await self.app(scope, receive, send)
        async with self.suite.using(self.task):
            await self.app(scope, receive, send)


async def _to_folder(request: Request) -> Response:
    return RedirectResponse(f"{request.url.path.rpartition('/')[2]}/", 308, HEADERS)  # relative: right behind a proxy
