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

from derm_ml.bundle import BundleError
from derm_ml.task import Task
from serving.endpoints import application
from serving.engine import Engine
from serving.guard import Guard, KnownPaths, Limits, is_loopback

TOKEN = "DERM_TOKEN"
BUNDLE = "bundle"  # the folder inside a BentoML model that holds the three files

logger = logging.getLogger("bentoml.serving")


class _Guarded(bentoml.Service):
    """A BentoML service whose outermost layer is ours: BentoML's own middleware hooks sit inside its metrics."""

    def to_asgi(self, is_main: bool = True) -> KnownPaths:
        return KnownPaths(super().to_asgi(is_main=is_main))


def make_service(
    task: Task, model: Path | str | None, name: str = "", limits: Limits | None = None
) -> bentoml.Service[Any]:
    """The service of `task`, with a bundle folder or the tag of a BentoML model (None: live, but never ready).

    `name` (default: the task's) names the service and its metrics: two services in one process need two names.
    The token is read from the environment variable DERM_TOKEN.
    """
    limits = limits or Limits()
    token = os.environ.get(TOKEN, "")
    engine = Engine(task, limits.waiting)

    class Inference:
        stored = BentoModel(model) if isinstance(model, str) else None  # seen by BentoML: packed into the Bento

        def __init__(self) -> None:
            if service.bento is not None:
                engine.bento = str(service.bento.tag)
            if model is None:
                logger.warning("%s: %s", task.name, engine.unready)
                return
            folder = model if isinstance(model, Path) else Path(self.stored.path_of(BUNDLE))
            try:
                engine.load(folder)
            except BundleError as error:  # stay live, so that somebody can ask why it is not ready
                logger.error("%s: not ready: %s", task.name, error)

        @bentoml.on_deployment
        @staticmethod
        def refuse_to_be_open() -> None:
            """Runs once in the parent process, before a worker is started."""
            context = click.get_current_context(silent=True)
            host = (context.params.get("host") if context else None) or "127.0.0.1"
            if not token and not is_loopback(host):
                raise SystemExit(f"refusing to listen on {host} without a token: set {TOKEN}, or bind to 127.0.0.1")

    Inference.__doc__ = f"{task.title}. POST the bytes of a JPEG or PNG picture to /predict or /explain."
    service = bentoml.service(
        name=name or task.name,
        service_class=_Guarded,
        workers=1,  # the model's threads share one session, so one process uses all cores and loads the model once
        http={"host": "127.0.0.1"},
        traffic={"timeout": 60},
        metrics={"enabled": True, "namespace": f"derm_{name or task.name}"},
        logging={"access": {"request_content_type": False}},  # a content type can carry a file name
    )(Inference)
    service.add_asgi_middleware(Guard, token=token, limits=limits, unready=lambda: engine.unready)
    service.mount_asgi_app(application(engine))
    return service
