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
from derm_ml.embeddings.similar import SimilarImagesError
from derm_ml.task import Task
from serving.answers import Answers
from serving.endpoints import application, largest_body
from serving.engine import Engine
from serving.guard import Guard, KnownPaths, Limits, is_loopback
from serving.openapi import document

TOKEN = "DERM_TOKEN"
BUNDLE = "bundle"  # the folder inside a BentoML model that holds the three files
INDEX = "similar"  # the folder beside it that holds the index of similar images, if there is one
BESIDE = Path("similar_images", "index")  # where that index lies beside a bundle that is served from disk

logger = logging.getLogger("bentoml.serving")


class _Guarded(bentoml.Service):
    """A BentoML service whose outermost layer is ours: BentoML's own middleware hooks sit inside its metrics."""

    described: dict[str, Any]

    def to_asgi(self, is_main: bool = True) -> KnownPaths:
        return KnownPaths(super().to_asgi(is_main=is_main))

    @property
    def openapi_spec(self) -> Any:
        """Written into the Bento as apis/openapi.yaml: BentoML knows nothing of paths that are not `@bentoml.api`."""
        return self.described


def make_service(
    task: Task, model: Path | str | None, name: str = "", limits: Limits | None = None
) -> bentoml.Service[Any]:
    """The service of `task`, with a bundle folder or the tag of a BentoML model (None: live, but never ready).

    `name` (default: the task's) names the service and its metrics: two services in one process need two names.
    The token is read from the environment variable DERM_TOKEN.
    """
    limits = limits or Limits(body_bytes=largest_body(task))
    token = os.environ.get(TOKEN, "").strip()
    engine = Engine(task, limits.waiting)
    reference = BentoModel(model) if isinstance(model, str) else None

    class Inference:
        stored = reference  # BentoML looks for it here, and packs the model it names into the Bento

        def __init__(self) -> None:
            if service.bento is not None:
                engine.bento = str(service.bento.tag)
            if isinstance(model, Path):
                _load(engine, model, model.parent / BESIDE)
            elif reference is not None:
                stored = reference.resolve()
                _load(engine, Path(stored.path_of(BUNDLE)), Path(stored.path_of(INDEX)))

        @bentoml.on_deployment
        @staticmethod
        def refuse_to_be_open() -> None:
            """Runs once in the parent process, before a worker is started."""
            context = click.get_current_context(silent=True)  # of the command `bentoml serve`
            host = (context.params.get("host") if context else None) or "127.0.0.1"
            if not token and not is_loopback(host):
                raise SystemExit(f"refusing to listen on {host} without a token: set {TOKEN}, or bind to 127.0.0.1")

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
    service.add_asgi_middleware(guard, token=token, limits=limits, unready=lambda: engine.unready)
    service.mount_asgi_app(application(engine))
    service.described = document(engine, Answers.of(task))
    return service


def _load(engine: Engine, bundle: Path, index: Path) -> None:
    """Load the model; without one the service stays live, so that somebody can ask why it is not ready."""
    try:
        engine.load(bundle, index)
    except BundleError as error:
        logger.error("%s: not ready: %s", engine.task.name, error)
    except SimilarImagesError as error:
        logger.error("%s: no similar images: %s", engine.task.name, error)
