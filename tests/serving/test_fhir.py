"""An answer as a FHIR Observation: a hospital's server refuses one that breaks the standard, and nobody is told why."""

from __future__ import annotations

from datetime import datetime

from derm_ml import RESEARCH_USE
from derm_ml.registry import get_task
from serving.fhir import FHIR, observation

RAW = {"Content-Type": "application/octet-stream", "Accept": FHIR}
STATUSES = {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}
# elements of Observation that R4 and R5 share and that are used here; a server refuses any that it does not know
KNOWN = {"resourceType", "identifier", "status", "category", "code", "issued", "device", "note", "component",
         "valueCodeableConcept", "dataAbsentReason"}  # fmt: skip


def check(found: dict) -> None:
    """What both versions demand: required elements, their kinds, and the rules obs-6 and obs-3 of a value."""
    assert set(found) <= KNOWN
    assert found["resourceType"] == "Observation"
    assert found["status"] in STATUSES
    assert found["code"]["coding"][0]["code"]
    assert found["code"]["text"]
    assert datetime.fromisoformat(found["issued"]).tzinfo, "an instant has a time zone"
    assert not {"valueCodeableConcept", "dataAbsentReason"} <= set(found)
    assert [coding["code"] for one in found["category"] for coding in one["coding"]] == ["research-use"]
    assert RESEARCH_USE in [note["text"] for note in found["note"]]
    for component in found.get("component", ()):
        assert component["code"]["coding"][0]["code"]
        assert len({"valueQuantity", "valueString"} & set(component)) == 1
        assert isinstance(component.get("valueQuantity", {"value": 0.0})["value"], float)


def test_an_answer_is_an_observation_with_its_probabilities(client, encode):
    response = client.post("/predict", content=encode(), headers=RAW)
    assert response.headers["content-type"].startswith(FHIR)
    found = response.json()
    check(found)
    plain = client.post("/predict", content=encode(), headers=RAW | {"Accept": "*/*"}).json()
    assert found["valueCodeableConcept"]["text"] == plain["predicted"]
    told = {one["code"]["text"]: one["valueQuantity"]["value"] for one in found["component"]}
    assert told == plain["probabilities"]


def test_a_corrected_answer_names_the_prevalence_and_keeps_the_two_kinds_of_probabilities_apart(client, encode):
    """One number for melanoma, for nobody knows which population, would be compared with others."""
    query = "prevalence=melanoma:0.01,nevus:0.89,seborrheic_keratosis:0.1&sets=yes"
    found = client.post(f"/predict?{query}", content=encode(), headers=RAW).json()
    check(found)
    plain = client.post(f"/predict?{query}", content=encode(), headers=RAW | {"Accept": "*/*"}).json()
    told: dict = {}
    for one in found["component"]:
        (coding,) = one["code"]["coding"]
        value = one.get("valueQuantity", {}).get("value", one.get("valueString"))
        told.setdefault(coding["system"], {})[coding["code"]] = value
        assert one["code"]["text"] == coding["display"]
    assert told.pop("urn:derm:at-prevalence") == plain["at_prevalence"]["probabilities"]
    assert told.pop("urn:derm:prevalence") == plain["at_prevalence"]["prevalence"]
    held = plain["prediction_set"]["classes"]
    assert told == {"urn:derm:number": plain["probabilities"] | {"prediction_set": ", ".join(held)}}
    texts = [one["code"]["text"] for one in found["component"]]
    assert len(set(texts)) == len(texts), "no two numbers under one name"
    assert any("corrected to the stated prevalence" in note["text"] for note in found["note"])


def test_several_images_are_a_bundle_and_a_spoilt_one_an_outcome(client, encode):
    form = [("image", ("a", data, "image/png")) for data in (encode(), encode()[:50])]
    found = client.post("/predict", files=form, headers={"Accept": FHIR}).json()
    assert (found["resourceType"], found["type"]) == ("Bundle", "collection")
    first, second = (entry["resource"] for entry in found["entry"])
    check(first)
    assert second["resourceType"] == "OperationOutcome"
    assert {"severity", "code", "diagnostics"} == set(second["issue"][0])


def test_where_the_model_abstains_there_is_no_value_and_a_reason():
    """A record that holds a diagnosis of a face would be believed."""
    said = {
        "prediction_id": "1", "model_version": "c0ffee", "bento": "source", "warnings": [], "predicted": None,
        "probabilities": None, "abstained": True, "abstained_because": "the image is blank",
    }  # fmt: skip
    found = observation(get_task("lesion_classification"), said)
    check(found)
    assert found["dataAbsentReason"]["text"] == "the image is blank"
    assert "component" not in found
