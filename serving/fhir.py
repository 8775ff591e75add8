"""An answer as a FHIR Observation (R4 and R5), for systems that keep nothing else: `Accept: application/fhir+json`.

Its category is research use and its status `preliminary`: nobody has looked at it. Where the model abstains there is no
value, and `dataAbsentReason` says why. Only elements that R4 and R5 share are used. Several images are a `Bundle`.

Where the answer is corrected to another prevalence, that prevalence and the corrected probabilities are components of
their own beside the others, and a note says what the correction assumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from derm_ml import RESEARCH_USE
from derm_ml.task import Task

FHIR = "application/fhir+json"
_OURS = "urn:derm"  # codes of this project; no terminology has codes for what a research model says
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_UNITS = "http://unitsofmeasure.org"
CORRECTED = (
    "Probabilities with the code system urn:derm:at-prevalence are corrected to the stated prevalence, on the "
    "assumption that only how often the labels occur differs, not how they look. Value and other probabilities are not "
    "corrected."
)
_HEADLINES = ("predicted", "present")  # fields that say in words what was decided


def wants_fhir(accept: str) -> bool:
    """Whether a client names FHIR."""
    return any(kind.partition(";")[0].strip().lower() == FHIR for kind in accept.split(","))


def observation(task: Task, said: Mapping[str, Any]) -> dict[str, Any]:
    """The Observation of an answer to one image or pair, as the service gives it."""
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"system": f"{_OURS}:prediction", "value": said["prediction_id"]}],
        "status": "preliminary",
        "category": [{**_code("category", "research-use", "Research use only"), "text": RESEARCH_USE}],
        "code": {**_code("task", task.name, task.title), "text": task.title},
        "issued": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "device": {"display": f"derm {task.name}, model {said['model_version']}, {said['bento']}"},
        "note": [{"text": text} for text in (*said.get("warnings", ()), RESEARCH_USE)],
    }
    headline = next((said[name] for name in _HEADLINES if said.get(name)), None)
    if said["abstained"]:
        absent = {"system": _ABSENT, "code": "not-performed", "display": "Not Performed"}
        found["dataAbsentReason"] = {"coding": [absent], "text": said["abstained_because"]}
    elif headline:
        found["valueCodeableConcept"] = {"text": headline}
    numbers = {name: number for name, number in task.numbers(said).items() if "." not in name}
    components = [_component("number", name, number) for name, number in numbers.items()]
    if at := said.get("at_prevalence"):
        components += [
            _component("prevalence", name, number, f"prevalence of {name} where the model is used, as stated")
            for name, number in at["prevalence"].items()
        ]
        components += [
            _component("at-prevalence", name, at["probabilities"][name], f"{name}, corrected to the stated prevalence")
            for name in at["prevalence"]
        ]
        found["note"].insert(0, {"text": CORRECTED})
    if inside := said.get("prediction_set"):
        text = "classes that cannot be ruled out"
        value = ", ".join(inside["classes"]) or "none: validation held nothing like this image"
        components.append({"code": {**_code("number", "prediction_set", text), "text": text}, "valueString": value})
    if components:
        found["component"] = components
    return found


def observations(task: Task, said: Mapping[str, Any]) -> dict[str, Any]:
    """A Bundle with an Observation or an OperationOutcome for each image of a batch, in the order they were sent."""
    common = {"warnings": said["warnings"]}
    entries = [
        observation(task, {**common, **one["answer"]}) if one.get("answer") else _refused(one["error"])
        for one in said["results"]
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": entry} for entry in entries]}


def _component(kind: str, name: str, number: float, text: str = "") -> dict[str, Any]:
    quantity = {"value": float(number), "unit": "1", "system": _UNITS, "code": "1"}
    return {"code": {**_code(kind, name, text or name), "text": text or name}, "valueQuantity": quantity}


def _refused(error: str) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": error}],
    }


def _code(kind: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{_OURS}:{kind}", "code": code, "display": display}]}
