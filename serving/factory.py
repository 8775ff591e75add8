"""One factory makes the BentoML service of any task, and of all together.

    make_service(get_task("lesion_classification"), Path("out/…/bundle"))      # a bundle on disk
    make_service(get_task("lesion_classification"), "lesion_classification:3f2a…")   # a model of the BentoML store
    make_suite(all_tasks())                                                    # whatever is released

Order of the layers, outside in: KnownPaths → BentoML's metrics, access log and 60 s timeout → Guard → endpoints.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bentoml
import click
from bentoml.models import BentoModel
from starlette.applications import Starlette

from derm_ml import DermError
from derm_ml.addresses import is_loopback
from derm_ml.model_folder import ModelFolder
from derm_ml.task import Task
from serving import logs, memory, slow_headers
from serving.answers import AnswerModels
from serving.endpoints import application, largest_body
from serving.engine import SOURCE, Engine, Files
from serving.follow import CODE, ChallengerFollower, Follower, open_challenger
from serving.guard import METHODS, Guard, KnownPaths, Limits, Methods, Readiness, methods_of, methods_of_suite
from serving.launch import FOLLOW, HOSTS, SHADOW, models_kept
from serving.metrics import Metrics
from serving.openapi import document
from serving.sources import code
from serving.suite import Suite
from serving.suite_endpoints import suite_application, suite_document
from serving.tokens import FILE, TOKEN, Tokens

logger = logging.getLogger("bentoml.serving")


class _Guarded(bentoml.Service):
    """A BentoML service whose outermost layer is ours: BentoML's own middleware hooks sit inside its metrics."""

    measured: Metrics
    described: dict[str, Any]
    methods: Methods = METHODS
    of_task: Mapping[str, Metrics] | None = None

    def to_asgi(self, is_main: bool = True) -> KnownPaths:
        return KnownPaths(super().to_asgi(is_main=is_main), self.measured, self.methods, self.of_task)

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
    metrics = Metrics(f"derm_{name or task.name}")
    engine = Engine(task, limits, metrics)
    reference = BentoModel(model) if isinstance(model, str) else None
    _prepare_process()

    class Inference:
        stored = reference  # BentoML looks for it here, and packs the model it names into the Bento
        follower: Follower | None = None

        def __init__(self) -> None:
            tag = str(service.bento.tag) if service.bento is not None else SOURCE
            if isinstance(model, Path):
                _load(engine, Files(model, ModelFolder.holding(model).index), tag)
            elif reference is not None:
                _load(engine, Files.stored(Path(reference.resolve().path)), tag)
            beside = None
            if challenger := os.environ.get(SHADOW):
                open_challenger(engine, challenger)
            elif os.environ.get(FOLLOW):
                beside = ChallengerFollower(engine)
                beside.look()
            if service.bento is not None and os.environ.get(FOLLOW):
                self.follower = Follower(engine, str(service.bento.info.labels.get(CODE, "")), beside)
                self.follower.look()  # a worker that is started anew begins with what is released now

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
            _refuse_to_be_open(tokens)

    Inference.__doc__ = f"{task.title}. Asked about {task.asking.about} at {task.asking.path}; see /docs."
    service = _guarded(name or task.name, Inference, metrics)
    guard = {"tokens": tokens, "limits": limits, "readiness": lambda _: Readiness(engine.unready, engine.refused)}
    _guard(service, application(engine), **guard, methods=methods_of(task.asking.path))
    service.described = document(engine, AnswerModels.of(task))
    return service


def make_suite(tasks: Mapping[str, Task], limits: Limits | None = None, name: str = "suite") -> bentoml.Service[Any]:
    """One service of several tasks, each with the Bento that is released of it, below `/<task>/`.

    It reads the same environment as a service of one task, and how many models stay in memory: see `suite`.
    Raises `TokenError` or `CannotServe`.
    """
    limits = limits or Limits(body_bytes=max(map(largest_body, tasks.values())))
    tokens = Tokens.from_environment()
    suite = Suite(tasks, limits, f"derm_{name}", models_kept(), code())
    _prepare_process()

    class Inference:
        @bentoml.on_startup
        async def follow(self) -> None:
            await suite.start()

        @bentoml.on_shutdown
        async def stop_following(self) -> None:
            await suite.stop()

        @bentoml.on_deployment
        @staticmethod
        def refuse_to_be_open() -> None:
            _refuse_to_be_open(tokens)

    Inference.__doc__ = "All released tasks, each below its name; see /docs."
    service = _guarded(name, Inference, suite.metrics)
    service.of_task = suite.of_task
    service.methods = methods_of_suite({task.name: task.asking.path for task in tasks.values()})
    guard = {"tokens": tokens, "limits": limits, "readiness": suite.readiness}
    _guard(service, suite_application(suite), **guard, methods=service.methods, tasks=tuple(tasks))
    service.described = suite_document(suite)
    return service


def _prepare_process() -> None:
    logs.install()
    slow_headers.install()
    memory.install()


def _refuse_to_be_open(tokens: Tokens) -> None:
    """Runs once in the parent process, before a worker is started."""
    context = click.get_current_context(silent=True)  # of the command `bentoml serve`
    host = (context.params.get("host") if context else None) or "127.0.0.1"
    if not tokens and not is_loopback(host):
        raise SystemExit(f"refusing to listen on {host} without a token: set {TOKEN} or {FILE}, or bind to 127.0.0.1")


def _guarded(name: str, inference: type, metrics: Metrics) -> _Guarded:
    """The BentoML service of that name, whose metrics are named `derm_<name>_…`."""
    settings: dict[str, Any] = {
        "workers": 1,  # the model's threads share one session: one process uses all cores and loads the model once
        "http": {"host": "127.0.0.1"},
        "traffic": {"timeout": 60},
        "metrics": {"enabled": True, "namespace": f"derm_{name}"},
        "logging": {"access": {"request_content_type": False}},  # a content type can carry a file name
    }
    service = bentoml.service(name=name, service_class=_Guarded, **settings)(inference)
    assert isinstance(service, _Guarded)
    service.measured = metrics
    return service


def _guard(service: _Guarded, app: Starlette, **options: Any) -> None:
    """Put `app` into the service, behind a `Guard` with these options."""
    guard: Any = Guard  # BentoML's protocol of a middleware leaves out its constructor
    hosts = [host.strip() for host in os.environ.get(HOSTS, "").split(",") if host.strip()]
    service.add_asgi_middleware(guard, hosts=hosts, **options)
    service.mount_asgi_app(app)


def _load(engine: Engine, files: Files, tag: str) -> None:
    """Load the model; without one the service stays live, so that somebody can ask why it is not ready."""
    try:
        engine.load(files, tag)
    except DermError as error:
        logger.error("%s: %s: %s", engine.task.name, "not ready" if engine.unready else "no similar images", error)
