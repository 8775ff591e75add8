"""POST /predict (of a task of pairs: /match), /explain and /similar, GET /, /openapi.json and /docs: our own paths.

A small Starlette application instead of `@bentoml.api`: BentoML would parse a body by its content type before
our code sees it, and answer 500 where it cannot. Here a body is raw bytes, or a form of images kept in memory.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from derm_ml import RESEARCH_USE
from derm_ml.asking.answers import Envelope
from derm_ml.asking.form import FORM
from derm_ml.asking.kinds import BATCH, BATCH_BYTES, BOXES, IMAGE
from derm_ml.asking.options import ANSWER, EXPLAIN, AskingError, read_options
from derm_ml.asking.pair import Pair
from derm_ml.contract import Predictor
from derm_ml.embeddings.similar import SimilarImagesError
from derm_ml.embeddings.similar import similar_answer as find_similar
from derm_ml.images.decode import UPLOAD_FORMATS, ImageError, decode
from derm_ml.images.preprocess import limit_side
from derm_ml.task import Task
from serving.answers import AnswerModels, enveloped, of_one, provenance
from serving.card import service_card
from serving.cost import pixels
from serving.engine import Engine
from serving.fhir import FHIR, observation, observations, wants_fhir
from serving.form import read_form
from serving.guard import HEADERS, refusal
from serving.openapi import IMAGES, document
from serving.options import SIMILAR_OPTIONS, drawing_side, options_from_query
from serving.page import docs_page, page_routes, start_page, wants_page
from serving.shadow import Sent

EXPLAINED_SIDE = 1024  # of a drawing by default: it is for eyes, one of 40 megapixels for nobody
TOGETHER = 8  # images of a batch in one call of the model: others get their turn in between

logger = logging.getLogger("bentoml.serving")  # below BentoML's own logger, so that it reaches the server's log


@dataclass(frozen=True)
class Question:
    """A request that was read: its options, those without effect, and its parts; `is_batch`: each part by itself."""

    options: dict[str, str]
    ignored: list[str]
    parts: list[tuple[str, bytes]]
    is_batch: bool

    @property
    def pixels(self) -> int:
        """That decoding it takes, by its headers: of several images the most, as they are decoded one after another."""
        return max(pixels(data) for _, data in self.parts)

    def asked(self, engine: Engine, predictor: Predictor) -> np.ndarray | Pair:
        """What the task is asked about, decoded. Raises `ImageError` or `AskingError`."""
        asking = engine.task.asking
        return asking.decoded(dict(self.parts), predictor.labels, asking.longest(predictor.card))


def application(engine: Engine) -> Starlette:
    """The paths of one task's service."""
    task = engine.task
    models = AnswerModels.of(task)

    async def start(request: Request) -> Response:
        if wants_page(request.headers.get("accept", "")):
            return start_page()
        return JSONResponse(service_card(engine), headers=HEADERS)

    async def predict(request: Request) -> Response:
        predictor = engine.ready()
        question = await _read(request, engine, predictor, ANSWER, takes_batch=task.asking.takes_batches)
        as_fhir = wants_fhir(request.headers.get("accept", ""))
        if question.is_batch:
            batch, sent = await _batch(engine, predictor, question, models)
            after = engine.ask_challenger(sent)
            if as_fhir:
                return JSONResponse(observations(task, batch), headers=HEADERS, media_type=FHIR, background=after)
            return JSONResponse(batch, headers=HEADERS, background=after)

        def ask(model: Predictor) -> dict[str, Any]:
            return task.answer(model, question.asked(engine, model), question.options)

        said, seen = await engine.run(engine.recorder.watched(lambda: ask(predictor)), question.pixels)
        engine.answered(predictor, said)
        signed = {**said, **_signed("prediction", predictor, engine)}
        images = [data for name, data in question.parts if name != BOXES]
        await engine.recorder.record(said, signed, images, seen[0][0] if seen else None)
        after = engine.ask_challenger([Sent(said, signed, images, ask, question.pixels)])
        if as_fhir:
            return JSONResponse(observation(task, signed), headers=HEADERS, media_type=FHIR, background=after)
        return JSONResponse(enveloped(models.answer, signed, question.ignored), headers=HEADERS, background=after)

    async def explain(request: Request) -> Response:
        predictor = engine.ready()
        as_json = _prefers_json(request.headers.get("accept", ""))
        question = await _read(request, engine, predictor, EXPLAIN)
        options = drawing_side(question.options, predictor.card, EXPLAINED_SIDE)
        if as_json:
            answer, shown = await engine.run(
                lambda: task.explanation(predictor, question.asked(engine, predictor), options), question.pixels
            )
            own = {name: value for name, value in answer.items() if name in task.asking.answer.model_fields}
            common = {name: value for name, value in answer.items() if name in Envelope.model_fields}
            signed = {**common, **shown.model_dump(mode="json", exclude_unset=True), "answer": own}
            signed |= _signed("explanation", predictor, engine)
            return JSONResponse(enveloped(models.explanation, signed, question.ignored), headers=HEADERS)

        def draw() -> bytes:
            drawn = task.explain(predictor, question.asked(engine, predictor), options)
            return cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes()

        png = await engine.run(draw, question.pixels)
        signed = _signed("explanation", predictor, engine)
        named = {f"X-{name.replace('_', '-').title()}": value for name, value in signed.items()}
        return Response(png, media_type="image/png", headers={**HEADERS, **named, "X-Research-Use": RESEARCH_USE})

    async def similar(request: Request) -> Response:
        predictor, known = engine.searchable()
        _refuse_encoding(request)
        if _kind(request) not in IMAGES:
            raise HTTPException(415, _wanted(()))
        options = read_options(request.query_params.multi_items(), SIMILAR_OPTIONS)
        engine.admit()
        body = await _image(request)
        said = await engine.run(lambda: find_similar(known, predictor, decode(body), options, engine.ids), pixels(body))
        signed = {**said, **_signed("similar images", predictor, engine)}
        return JSONResponse(enveloped(models.similar, signed, []), headers=HEADERS)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(engine, models), headers=HEADERS)

    async def docs(_: Request) -> Response:
        return docs_page(document(engine, models))

    return Starlette(
        routes=[
            Route("/", start, methods=["GET"]),
            Route(task.asking.path, predict, methods=["POST"]),
            Route("/explain", explain, methods=["POST"]),
            Route("/similar", similar, methods=["POST"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/docs", docs, methods=["GET"]),
            *page_routes(),
        ],
        exception_handlers={
            HTTPException: _refused,
            ImageError: _unusable,
            AskingError: _unusable,
            SimilarImagesError: _unusable,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )


async def _batch(
    engine: Engine, predictor: Predictor, question: Question, models: AnswerModels
) -> tuple[dict[str, Any], list[Sent]]:
    """Several images: for each its answer, or the status and sentence that it alone would have been refused with; and
    those that were answered, for the challenger."""
    task, results = engine.task, []
    sent: list[Sent] = []
    for start in range(0, len(question.parts), TOGETHER):
        bodies = [data for _, data in question.parts[start : start + TOGETHER]]
        try:
            answered, seen = await engine.run(
                engine.recorder.watched(lambda bodies=bodies: _together(engine, predictor, bodies, question.options)),
                _most_pixels(bodies),
            )
            results += _with_embeddings(answered, seen)
        except HTTPException as error:  # the queue is full: those answered so far are not lost
            results += [{"status": error.status_code, "error": error.detail}] * len(bodies)
    for number, result in enumerate(results):
        result |= {"number": number}
        if "answer" in result:
            signed, embedding = _signed("prediction", predictor, engine), result.pop("embedding", None)
            said, body = result["answer"], question.parts[number][1]
            await engine.recorder.record(said, signed, [body], embedding)
            sent.append(Sent(said, signed, [body], _asking_one(engine, body, question.options), pixels(body)))
            result["answer"] = of_one(result["answer"]) | signed
    answered = sum("answer" in result for result in results)
    said = {"results": results, "answered": answered, "refused": len(results) - answered}
    return enveloped(models.batch, task.envelope(predictor, question.options).around(said), question.ignored), sent


def _asking_one(engine: Engine, body: bytes, options: dict[str, str]) -> Callable[[Predictor], Mapping[str, Any]]:
    """How any model is asked about one image of a batch."""

    def ask(model: Predictor) -> Mapping[str, Any]:
        (result,) = _together(engine, model, [body], options)
        return result["answer"]

    return ask


def _with_embeddings(results: list[dict[str, Any]], seen: list[np.ndarray]) -> list[dict[str, Any]]:
    """Results of a batch, those with an answer with their embedding, where the network gave one for each of them."""
    rows = [row for part in seen for row in part]
    answered = [result for result in results if "answer" in result]
    if len(rows) == len(answered):
        for result, row in zip(answered, rows, strict=True):
            result["embedding"] = row
    return results


def _most_pixels(bodies: list[bytes]) -> int:
    """Of the largest image; one that is refused costs nothing, and its sentence is that of the image alone."""
    costs = [0]
    for body in bodies:
        with contextlib.suppress(ImageError):
            costs.append(pixels(body))
    return max(costs)


def _together(
    engine: Engine, predictor: Predictor, bodies: list[bytes], options: dict[str, str]
) -> list[dict[str, Any]]:
    """Answers and errors of some images in order. One large image is in memory at a time."""
    task = engine.task
    side = predictor.card.preprocessing.store_side if task.answers_together else 0
    results: list[dict[str, Any]] = [{} for _ in bodies]
    images: dict[int, np.ndarray] = {}
    for place, body in enumerate(bodies):
        try:
            if len(body) > UPLOAD_FORMATS.max_bytes:
                raise ImageError(_too_large())
            image = limit_side(decode(body), side)
        except ImageError as error:
            results[place] = {"status": 400, "error": str(error)}
            continue
        if task.answers_together:
            images[place] = image
        else:
            results[place] = {"status": 200, "answer": task.answer(predictor, image, options)}
    if images:
        for place, answer in zip(images, task.answers(predictor, list(images.values()), options), strict=True):
            results[place] = {"status": 200, "answer": answer}
    return results


async def _read(
    request: Request, engine: Engine, predictor: Predictor, used_for: str, takes_batch: bool = False
) -> Question:
    """Options and body of a request, the cheap refusals first. Raises `AskingError` or an `HTTPException`."""
    asking = engine.task.asking
    kind = _kind(request)
    is_form = kind == FORM and (bool(asking.parts) or takes_batch)
    if not is_form and not (asking.takes_bytes and kind in IMAGES):
        raise HTTPException(415, _wanted([part.name for part in asking.parts], asking.takes_bytes, takes_batch))
    _refuse_encoding(request)
    given = request.query_params.multi_items()
    options, ignored = options_from_query(given, engine.task, predictor.card, used_for, engine.stated_of(predictor))
    engine.admit()
    if not is_form:
        return Question(options, ignored, [(IMAGE, await _image(request))], is_batch=False)
    parts = await read_form(request, asking.parts, takes_batch, asking.body_bytes)
    return Question(options, ignored, parts, is_batch=parts[0][0] == IMAGE)


async def _image(request: Request) -> bytes:
    """A body that is one image. Raises a 413 as soon as it has more bytes than one may have."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > UPLOAD_FORMATS.max_bytes:
            raise HTTPException(413, _too_large(), {"Connection": "close"})
    return bytes(body)


def largest_body(task: Task) -> int:
    """The most bytes that any request to a task's service may have."""
    return max(task.asking.body_bytes, BATCH_BYTES if task.asking.takes_batches else 0)


def _kind(request: Request) -> str:
    kinds = request.headers.getlist("content-type")
    return kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""


def _refuse_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not accepted; send the image as it is")


def _wanted(parts: Sequence[str], takes_bytes: bool = True, takes_batch: bool = False) -> str:
    """What a body may be, in one sentence."""
    ways = [f"the image's bytes as the body, with Content-Type {' or '.join(IMAGES)}"] if takes_bytes else []
    ways += [f"{', '.join(parts)} as {FORM}"] if parts else []
    ways += [f"up to {BATCH} parts named {IMAGE} as {FORM}"] if takes_batch else []
    return f"send {', or '.join(ways)}"


def _too_large() -> str:
    return f"the image has more than {UPLOAD_FORMATS.max_bytes / 2**20:g} MiB; send a smaller one"


def _prefers_json(accept: str) -> bool:
    """Whether a client names JSON and no image: an explanation is an image unless asked for otherwise."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    return "application/json" in kinds and not any(kind.startswith("image/") for kind in kinds)


def _signed(what: str, predictor: Predictor, engine: Engine) -> dict[str, str]:
    signed = provenance(predictor, engine.bento_of(predictor))
    logger.info(f"{what} %(prediction_id)s model %(model_version)s bento %(bento)s", signed)
    return signed


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, dict(error.headers or {}))


async def _unusable(_: Request, error: Exception) -> Response:
    return refusal(400, str(error))


async def _gone(_: Request, __: Exception) -> Response:
    return refusal(400, "the connection ended before the image was complete")


async def _failed(_: Request, __: Exception) -> Response:
    """Starlette hands the exception on to the server's log; the client is told no more than this."""
    return refusal(500, "the service failed on this image; the server's log says why")
