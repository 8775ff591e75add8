"""The page of the HTTP API, from the declarations that a service checks requests with."""

from __future__ import annotations

from typing import Any

from derm_ml.registry import all_tasks
from derm_ml.task import Task
from documents.markdown import MADE, code, page, plain, table
from serving.answers import AnswerModels
from serving.openapi import API_VERSION, REFUSALS, document_of

QUESTIONS = ("/predict", "/match", "/explain", "/similar")


def http() -> str:
    """Paths, parameters and answers of each task's service."""
    tasks = all_tasks()
    documents = {name: document_of(task, None, AnswerModels.of(task)) for name, task in tasks.items()}
    first = next(iter(documents.values()))
    probes = {path: methods for path, methods in first["paths"].items() if path not in QUESTIONS}
    parts = [
        MADE,
        f"Version {API_VERSION}. A running service gives the same as OpenAPI 3.1 at `/openapi.json`, and for people at "
        "`/docs`. How bodies are sent, with examples: [Serving](../serving.md).",
        "## Paths of every service",
        table(["path", "what"], [[code(f"GET {path}"), plain(get["get"]["summary"])] for path, get in probes.items()]),
        "## Refusals",
        'Always `{"error": "one sentence"}`.',
        table(["status", "when"], [[code(status), plain(why)] for status, why in REFUSALS.items()]),
    ]
    for name, document in documents.items():
        parts += _of_task(tasks[name], document)
    return page("HTTP API", *parts)


def _of_task(task: Task, document: dict[str, Any]) -> list[str]:
    parts = [f"## {task.name}", plain(f"{task.title}: asked about {task.asking.about}.")]
    schemas = document["components"]["schemas"]
    for path in QUESTIONS:
        post = document["paths"].get(path, {}).get("post")
        if post is None:
            continue
        parts += [f"### `POST {path}` of {task.name}", plain(f"{post['summary']}. {post['description']}")]
        bodies = ", ".join(map(code, post["requestBody"]["content"]))
        answers = ", ".join(map(code, post["responses"]["200"]["content"]))
        parts.append(f"Body: {bodies}. Answer: {answers}.")
        rows = [[code(one["name"]), values_of(one["schema"]), plain(one["description"])] for one in post["parameters"]]
        if rows:
            parts.append(table(["parameter", "values", "what"], rows))
    answer = document["paths"][task.asking.path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    name = _name(answer.get("anyOf", [answer])[0])
    parts += [f"### Answer of {task.name}", _fields(schemas[name], schemas)]
    return parts


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = [
        [code(name), values_of(field), plain(field.get("description", ""))]
        for name, field in schema["properties"].items()
    ]
    return table(["field", "type", "what"], rows)


def values_of(schema: dict[str, Any]) -> str:
    """The type of a JSON schema, and what it may be, in a few words."""
    if "$ref" in schema:
        return code(_name(schema))
    if "anyOf" in schema:
        return " or ".join(values_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    if "const" in schema:
        return code(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {values_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {values_of(schema['additionalProperties'])}"
    span = [f"{sign} {schema[key]:g}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return ", ".join([str(kind), *span])


def _name(reference: dict[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]
