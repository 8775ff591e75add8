"""One factory makes the BentoML service of any task.

    make_service(get_task("lesion_classification"), Path("out/…/bundle"))      # a bundle on disk
    make_service(get_task("lesion_classification"), "lesion_classification:3f2a…")   # a model of the BentoML store

Order of the layers, outside in: KnownPaths → BentoML's metrics, access log and 60 s timeout → Guard → endpoints.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import bentoml
import click
from bentoml.models import BentoModel

from derm_ml import DermError
from derm_ml.addresses import is_loopback
from derm_ml.model_folder import ModelFolder
from derm_ml.task import Task
from serving import logs, memory, slow_headers
from serving.answers import AnswerModels
from serving.endpoints import application, largest_body
from serving.engine import SOURCE, Engine, Files
from serving.follow import CODE, Follower, open_challenger
from serving.guard import Guard, KnownPaths, Limits, Readiness
from serving.launch import FOLLOW, HOSTS, SHADOW
from serving.metrics import Metrics
from serving.openapi import document
from serving.tokens import FILE, TOKEN, Tokens

logger = logging.getLogger("bentoml.serving")


class _Guarded(bentoml.Service):
    """A BentoML service whose outermost layer is ours: BentoML's own middleware hooks sit inside its metrics."""

    measured: Metrics
    described: dict[str, Any]

    def to_asgi(self, is_main: bool = True) -> KnownPaths:
        return KnownPaths(super().to_asgi(is_main=is_main), self.measured)

    @property
    def openapi_spec(self) -> Any:
        """Written into the Bento as apis/openapi.yaml: BentoML knows nothing of paths that are not `@bentoml.api`."""
        return self.described


def make_service(
    task: Task, model: Path | str | None, name: str = "", limits: Limits | None = None
) -> bentoml.Service[Any]:
    """The service of `task`, with a bundle folder or the tag of a BentoML model (None: live, but never ready).

    `name` (default: the task's) names the service and its metrics: two services in one process need two names.
    Tokens, further host names and what to follow are read from the environment: see `tokens` and `launch`.
    Raises `TokenError` for tokens that cannot be used.
    """
    limits = limits or Limits(body_bytes=largest_body(task))
    tokens = Tokens.from_environment()
    hosts = [host.strip() for host in os.environ.get(HOSTS, "").split(",") if host.strip()]
    metrics = Metrics(f"derm_{name or task.name}")
    engine = Engine(task, limits, metrics)
    reference = BentoModel(model) if isinstance(model, str) else None
    logs.install()
    slow_headers.install()
    memory.install()

    class Inference:
        stored = reference  # BentoML looks for it here, and packs the model it names into the Bento
        follower: Follower | None = None

        def __init__(self) -> None:
            tag = str(service.bento.tag) if service.bento is not None else SOURCE
            if isinstance(model, Path):
                _load(engine, Files(model, ModelFolder.holding(model).index), tag)
            elif reference is not None:
                _load(engine, Files.stored(Path(reference.resolve().path)), tag)
            if service.bento is not None and os.environ.get(FOLLOW):
                self.follower = Follower(engine, str(service.bento.info.labels.get(CODE, "")))
                self.follower.look()  # a worker that is started anew begins with what is released now
            if challenger := os.environ.get(SHADOW):
                open_challenger(engine, challenger)

        @bentoml.on_startup
        async def follow(self) -> None:
            if self.follower is not None:
                await self.follower.start()

        @bentoml.on_shutdown
        async def stop_following(self) -> None:
            if self.follower is not None:
                await self.follower.stop()

        @bentoml.on_deployment
        @staticmethod
        def refuse_to_be_open() -> None:
            """Runs once in the parent process, before a worker is started."""
            context = click.get_current_context(silent=True)  # of the command `bentoml serve`
            host = (context.params.get("host") if context else None) or "127.0.0.1"
            if not tokens and not is_loopback(host):
                raise SystemExit(
                    f"refusing to listen on {host} without a token: set {TOKEN} or {FILE}, or bind to 127.0.0.1"
                )

    Inference.__doc__ = f"{task.title}. Asked about {task.asking.about} at {task.asking.path}; see /docs."
    settings: dict[str, Any] = {
        "workers": 1,  # the model's threads share one session: one process uses all cores and loads the model once
        "http": {"host": "127.0.0.1"},
        "traffic": {"timeout": 60},
        "metrics": {"enabled": True, "namespace": f"derm_{name or task.name}"},
        "logging": {"access": {"request_content_type": False}},  # a content type can carry a file name
    }
    service = bentoml.service(name=name or task.name, service_class=_Guarded, **settings)(Inference)
    guard: Any = Guard  # BentoML's protocol of a middleware leaves out its constructor
    assert isinstance(service, _Guarded)
    service.measured = metrics
    service.add_asgi_middleware(
        guard,
        tokens=tokens,
        limits=limits,
        readiness=lambda: Readiness(engine.unready, engine.refused),
        hosts=hosts,
        absent={"/match", "/predict"} - {task.asking.path},
    )
    service.mount_asgi_app(application(engine))
    service.described = document(engine, AnswerModels.of(task))
    return service


def _load(engine: Engine, files: Files, tag: str) -> None:
    """Load the model; without one the service stays live, so that somebody can ask why it is not ready."""
    try:
        engine.load(files, tag)
    except DermError as error:
        logger.error("%s: %s: %s", engine.task.name, "not ready" if engine.unready else "no similar images", error)
