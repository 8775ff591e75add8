"""POST /predict (of a task of pairs: /match), /explain and /similar, and GET /: the paths of the service that are ours.

A small Starlette application instead of `@bentoml.api`: BentoML would parse a body by its content type before
our code sees it, and answer 500 where it cannot. Here a body is raw bytes, or a form of two photos kept in memory.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from derm_ml import RESEARCH_USE
from derm_ml.embeddings.similar import SimilarImagesError
from derm_ml.embeddings.similar import answer as find_similar
from derm_ml.images.decode import ImageError, decode
from derm_ml.images.preprocess import limit_side
from derm_ml.pairs import Pair
from derm_ml.predictor import Predictor
from derm_ml.task import Task
from serving.engine import Engine
from serving.guard import HEADERS, METHODS, refusal
from serving.options import OPTIONS, SIMILAR_OPTIONS, OptionError, read_options
from serving.pairs import FORM, decoded_pair, read_form

BODIES = ("image/jpeg", "image/png", "application/octet-stream")
EXPLAINED_SIDE = 1024  # a larger picture is shrunk for /explain: the overlay is for eyes, a 40-megapixel one for nobody

logger = logging.getLogger("bentoml.serving")  # below BentoML's own logger, so that it reaches the server's log


def application(engine: Engine) -> Starlette:
    """The paths of one task's service."""

    async def card(_: Request) -> Response:
        return JSONResponse(_card(engine), headers=HEADERS)

    async def predict(request: Request) -> Response:
        predictor = engine.ready()
        options, asked = await _read(request, engine, predictor)
        # of two photos, only what the predictor looks at: twice 40 megapixels are a lot of memory for one question
        side = predictor.card.preprocessing.store_side if engine.task.pairs or engine.task.fellow else 0
        said = await engine.run(lambda: engine.task.answer(predictor, asked(side), options))
        identity = _identity(predictor, engine.bento)
        logger.info("prediction %(prediction_id)s model %(model_version)s bento %(bento)s", identity)
        return JSONResponse({**said, **identity, "research_use": RESEARCH_USE}, headers=HEADERS)

    async def explain(request: Request) -> Response:
        predictor = engine.ready()
        options, asked = await _read(request, engine, predictor)

        def draw() -> bytes:
            # the predictor shrinks to store_side first anyway: doing it here changes no number
            side = min(predictor.card.preprocessing.store_side or EXPLAINED_SIDE, EXPLAINED_SIDE)
            picture = engine.task.explain(predictor, asked(side), options)
            return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()

        png = await engine.run(draw)
        identity = _identity(predictor, engine.bento)
        logger.info("explanation %(prediction_id)s model %(model_version)s bento %(bento)s", identity)
        named = {f"X-{name.replace('_', '-').title()}": value for name, value in identity.items()}
        return Response(png, media_type="image/png", headers={**HEADERS, **named, "X-Research-Use": RESEARCH_USE})

    async def similar(request: Request) -> Response:
        predictor, known = engine.ready(), engine.searchable()
        options, asked = await _read(request, engine, predictor, SIMILAR_OPTIONS, one_picture=True)

        def find() -> dict[str, Any]:
            picture = asked(0)
            assert isinstance(picture, np.ndarray)  # no index is made of pairs
            return find_similar(known, predictor, picture, options, engine.ids)

        said = await engine.run(find)
        identity = _identity(predictor, engine.bento)
        logger.info("similar images %(prediction_id)s model %(model_version)s bento %(bento)s", identity)
        return JSONResponse({**said, **identity, "research_use": RESEARCH_USE}, headers=HEADERS)

    return Starlette(
        routes=[
            Route("/", card, methods=["GET"]),
            Route(asked_at(engine.task), predict, methods=["POST"]),
            Route("/explain", explain, methods=["POST"]),
            Route("/similar", similar, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _refused,
            ImageError: _unusable,
            OptionError: _unusable,
            SimilarImagesError: _unusable,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )


Asked = Callable[[int], np.ndarray | Pair]  # longest side (0: as sent) → what the task is asked about, decoded


async def _read(
    request: Request,
    engine: Engine,
    predictor: Predictor,
    known: Mapping[str, str] = OPTIONS,
    one_picture: bool = False,
) -> tuple[dict[str, str], Asked]:
    """Options and body of a request, the cheap refusals first. Raises `OptionError` or an `HTTPException`.

    `one_picture`: the photo of the other eye is not taken, even where the task takes it.
    """
    fellow = engine.task.fellow and not one_picture
    kinds = request.headers.getlist("content-type")
    kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
    is_form = kind == FORM and (engine.task.pairs or fellow)
    if engine.task.pairs and not is_form:
        raise HTTPException(415, f"send the photos first and second (and boxes) as {FORM}")
    if not is_form and kind not in BODIES:
        both = f", or, with the photo of the other eye, first and second as {FORM}" if fellow else ""
        raise HTTPException(415, f"send the picture's bytes as the body, with Content-Type {' or '.join(BODIES)}{both}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not accepted; send the picture as it is")
    given = request.query_params.multi_items()
    options = read_options(given, predictor.labels, predictor.card.point_names, known)
    engine.admit()
    if is_form:
        parts = await read_form(request, with_boxes=engine.task.pairs)
        return options, lambda longest: decoded_pair(parts, predictor.labels, longest)
    body = await request.body()
    return options, lambda longest: limit_side(decode(body), longest)


def asked_at(task: Task) -> str:
    """The path on which a task is asked."""
    return "/match" if task.pairs else "/predict"


def _identity(predictor: Predictor, bento: str) -> dict[str, str]:
    return {
        "prediction_id": uuid.uuid4().hex,
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "bento": bento,
    }


def _card(engine: Engine) -> dict[str, Any]:
    """What the service is and whether it is ready."""
    card: dict[str, Any] = {"task": engine.task.name, "title": engine.task.title, "bento": engine.bento}
    if engine.predictor is not None:
        card |= {
            "labels": list(engine.predictor.labels),
            "model_version": engine.predictor.bundle.version,
            "dataset_md5": engine.predictor.card.dataset_md5,
            "similar_images": len(engine.similar) if engine.similar else 0,
            "thumbnails": bool(engine.similar and engine.similar.has_thumbnails),
            "licences": engine.similar.licences if engine.similar else [],
        }
    return {**card, "ready": not engine.unready, "paths": _paths(engine.task), "research_use": RESEARCH_USE}


def _paths(task: Task) -> list[str]:
    other = {"/match", "/predict"} - {asked_at(task)}
    return [path for path in METHODS if path not in other]


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, dict(error.headers or {}))


async def _unusable(_: Request, error: Exception) -> Response:
    return refusal(400, str(error))


async def _gone(_: Request, __: Exception) -> Response:
    return refusal(400, "the connection ended before the picture was complete")


async def _failed(_: Request, __: Exception) -> Response:
    """Starlette hands the exception on to the server's log; the client is told no more than this."""
    return refusal(500, "the service failed on this picture; the server's log says why")
