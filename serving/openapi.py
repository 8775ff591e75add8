"""The API description, OpenAPI 3.1, from the declarations that parse requests and the models that answers are made of.

`GET /openapi.json` gives it, `GET /docs` shows it to people, and the Bento holds it as `apis/openapi.yaml` (there
without the labels and operating points of a loaded model).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from derm_ml import RESEARCH_USE
from derm_ml.asking.boxes import EXAMPLE
from derm_ml.asking.form import FORM
from derm_ml.asking.kinds import BATCH, BATCH_BYTES, IMAGE, Part
from derm_ml.asking.options import ANSWER, EXPLAIN, Option
from derm_ml.bundles.bundle import BundleCard
from derm_ml.images.decode import UPLOAD_FORMATS
from derm_ml.task import Task
from serving.answers import AnswerModels, Refusal, ServiceCard
from serving.engine import Engine
from serving.fhir import FHIR
from serving.options import SIMILAR_OPTIONS

API_VERSION = "1.6.0"  # 1.6: `accepts` of the card
REF = "#/components/schemas/{model}"
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "DICOM": "application/dicom"}
IMAGES = (*(_TYPES[name] for name in UPLOAD_FORMATS.names), "application/octet-stream")
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
REFUSALS = {
    400: "not exactly one valid image, or a parameter that is not accepted",
    401: "the token is missing or wrong",
    403: "no token is set, and the request came from another machine",
    408: "the body took too long",
    413: "the body is too large",
    415: "the body is of another kind",
    421: "the Host header names another host",
    429: "too many images are waiting; try again",
    500: "the service failed",
    503: "there is no verified model, or no index of similar images, or too many bodies are being received",
    504: "no answer in time",
}


def document(engine: Engine, models: AnswerModels) -> dict[str, Any]:
    """The description of one task's service; labels and operating points are those of its model, once there is one."""
    return document_of(engine.task, engine.predictor.card if engine.predictor else None, models)


def document_of(task: Task, card: BundleCard | None, models: AnswerModels) -> dict[str, Any]:
    """The same of a task; without a model's `card` any text is a label or an operating point."""
    every = (models.answer, models.batch, models.explanation, models.similar, ServiceCard, Refusal)
    _, schemas = models_json_schema([(model, "validation") for model in every], ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": task.title,
            "version": API_VERSION,
            "summary": f"{task.name}: asked about {task.asking.about}",
            "description": RESEARCH_USE,
        },
        "servers": [{"url": "."}],
        "security": [{}, {"token": []}],
        "paths": {**_questions(task, card, models), **_probes()},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "where one is set"}},
        },
    }


def _questions(task: Task, card: BundleCard | None, models: AnswerModels) -> dict[str, Any]:
    asking = task.asking
    answers = [models.answer, models.batch] if asking.takes_batches else [models.answer]
    answer = {"application/json": {"schema": _ref(answers[0]) if len(answers) == 1 else _any_of(answers)}}
    resource = {"type": "object", "properties": {"resourceType": {"type": "string"}}, "required": ["resourceType"]}
    answer[FHIR] = {"schema": resource | {"description": "an Observation (FHIR R4, R5); of several images a Bundle"}}
    explained = {
        "image/png": {"schema": _BINARY},
        "application/json": {"schema": _ref(models.explanation)},
    }
    return {
        asking.path: _post(
            "answer",
            f"Ask about {asking.about}",
            (asking.answer.__doc__ or "").strip(),
            asking.options_for(ANSWER).values(),
            card,
            _body(task, with_batch=asking.takes_batches),
            answer,
        ),
        "/explain": _post(
            "explain",
            "See what an answer rests on",
            "A PNG by default; with `Accept: application/json` the same as numbers, and the answer it explains.",
            asking.options_for(EXPLAIN).values(),
            card,
            _body(task, with_batch=False),
            explained,
        ),
        "/similar": _post(
            "similar",
            "Find the known images nearest to one image",
            "In the embedding of the model; 503 where the service was built without an index.",
            SIMILAR_OPTIONS.values(),
            card,
            {kind: {"schema": _BINARY} for kind in IMAGES},
            {"application/json": {"schema": _ref(models.similar)}},
        ),
    }


def _post(
    name: str,
    summary: str,
    description: str,
    options: Iterable[Option],
    card: BundleCard | None,
    body: dict[str, Any],
    answer: dict[str, Any],
) -> dict[str, Any]:
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "description": description,
            "parameters": [_parameter(option, card) for option in options],
            "requestBody": {"required": True, "content": body},
            "responses": {"200": {"description": "the answer", "content": answer}, **_refusals(REFUSALS)},
        }
    }


def _parameter(option: Option, card: BundleCard | None) -> dict[str, Any]:
    used = card is None or option.is_used_by(card)
    said = option.help if used else f"{option.help} (the loaded model has no use for it)"
    return {"name": option.name, "in": "query", "description": said, "schema": option.schema(card)}


def _body(task: Task, with_batch: bool) -> dict[str, Any]:
    """The kinds of bodies of a question: an image's bytes, the parts of a form, several images."""
    asking = task.asking
    content: dict[str, Any] = {kind: {"schema": _BINARY} for kind in IMAGES} if asking.takes_bytes else {}
    forms = [_form(asking.parts)] if asking.parts else []
    if with_batch:
        several = {
            "type": "array",
            "items": _BINARY,
            "minItems": 1,
            "maxItems": BATCH,
            "description": f"at most {BATCH_BYTES // 2**20} MiB together; options hold for all of them",
        }
        forms.append(
            {"type": "object", "properties": {IMAGE: several}, "required": [IMAGE], "additionalProperties": False}
        )
    if forms:
        content[FORM] = {"schema": forms[0] if len(forms) == 1 else {"oneOf": forms}}
    return content


def _form(parts: tuple[Part, ...]) -> dict[str, Any]:
    most = UPLOAD_FORMATS.max_bytes // 2**20
    properties = {
        part.name: (
            {**_BINARY, "description": f"{part.help}; {UPLOAD_FORMATS}, at most {most} MiB"}
            if part.is_image
            else {"type": "string", "contentMediaType": "application/json", "description": part.help,
                  "examples": [EXAMPLE]}
        )
        for part in parts
    }  # fmt: skip
    required = [part.name for part in parts if part.is_required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _probes(start: type = ServiceCard) -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    page = {"text/html": {"schema": {"type": "string"}}}
    card = {"application/json": {"schema": _ref(start)}}
    said = {"ready": {"type": "boolean"}, "release": {"type": "string"}}
    ready = {"application/json": {"schema": {"type": "object", "properties": said, "required": list(said)}}}
    return {
        "/": _get("card", "What the service is; to a browser, a page", {**card, **page}),
        "/openapi.json": _get("openapi", "This description", {"application/json": {"schema": {"type": "object"}}}),
        "/docs": _get("docs", "This description for people", page),
        "/livez": _get("live", "200 while the process lives", text, asks=False),
        "/healthz": _get("healthy", "200 while the process lives", text, asks=False),
        "/readyz": _get("ready", "Whether a model answers, and the newest", ready, {503: REFUSALS[503]}, asks=False),
        "/metrics": _get("metrics", "Prometheus metrics", text),
    }


def _get(
    name: str, summary: str, content: dict[str, Any], refused: dict[int, str] | None = None, asks: bool = True
) -> dict[str, Any]:
    """`asks`: whether it wants the token where one is set."""
    refusals = {**({status: REFUSALS[status] for status in (401, 403, 421)} if asks else {}), **(refused or {})}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            **({} if asks else {"security": [{}]}),
            "responses": {"200": {"description": summary, "content": content}, **_refusals(refusals)},
        }
    }


def _refusals(statuses: dict[int, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(Refusal)}}
    return {str(status): {"description": why, "content": content} for status, why in statuses.items()}


def _any_of(models: Iterable[type]) -> dict[str, Any]:
    return {"anyOf": [_ref(model) for model in models]}


def _ref(model: type) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def described_suite(of_tasks: dict[str, dict[str, Any]], card: type) -> dict[str, Any]:
    """The description of a suite with the documents of its tasks; `card` is the model that its `GET /` answers with."""
    _, own = models_json_schema([(card, "validation"), (Refusal, "validation")], ref_template=REF)
    schemas: dict[str, Any] = dict(own["$defs"])
    paths = _probes(card)
    for task, described in of_tasks.items():
        kind = "".join(word.capitalize() for word in task.split("_"))
        renamed = json.loads(json.dumps(described).replace(REF.format(model=""), REF.format(model=kind)))
        schemas |= {kind + name: schema for name, schema in renamed["components"]["schemas"].items()}
        for path, methods in renamed["paths"].items():
            for asked in methods.values():
                asked |= {"operationId": f"{task}_{asked['operationId']}", "tags": [task]}
            paths[f"/{task}{path}"] = methods
    first = next(iter(of_tasks.values()))
    return {
        **first,
        "info": {
            "title": "derm",
            "version": API_VERSION,
            "summary": "all released tasks in one service, each below its name",
            "description": RESEARCH_USE,
        },
        "paths": paths,
        "components": {**first["components"], "schemas": schemas},
    }
