"""The API description is the API: what it says is accepted is accepted, and every answer is what it says.

A client that knows nothing but the description calls each path of each task.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from PIL import Image
from starlette.testclient import TestClient

from derm_ml import RESEARCH_USE
from derm_ml.asking.answers import NO_GATE, SYNTHETIC, Envelope
from derm_ml.asking.options import Option
from derm_ml.explain.panels import COLUMN
from derm_ml.registry import all_tasks, get_task
from serving.answers import AnswerModels
from serving.engine import Engine
from serving.factory import make_service
from serving.guard import METHODS, Limits
from serving.metrics import Metrics
from serving.openapi import document
from serving.page import FOLDER

RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def client(make_client, indexed) -> TestClient:
    return make_client(indexed)


@pytest.fixture(scope="module")
def described(client) -> dict:
    return client.get("/openapi.json").json()


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_the_description_of_every_task_is_valid(task):
    """Otherwise no generator makes a client of it."""
    validate(document(Engine(task, Limits(), Metrics("derm_openapi_tests")), AnswerModels.of(task)))


def test_it_names_every_path_and_no_other(described, client):
    ours = {path for path in METHODS if path != "/match" and not path.startswith(FOLDER)}
    assert set(described["paths"]) == ours
    assert set(client.get("/").json()["paths"]) == ours


def example(schema: dict):
    """A value that the schema of a parameter accepts."""
    if "enum" in schema:
        return schema["enum"][-1]
    if "examples" in schema:
        return schema["examples"][0]
    return schema.get("maximum", "x")


def check(described: dict, call: dict, response) -> None:
    """Status, content type and body are as described."""
    told = call["responses"][str(response.status_code)]["content"]
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in told, f"{kind} is not among {list(told)}"
    if kind == "application/json":
        schema = {**told[kind]["schema"], "components": described["components"]}
        Draft202012Validator(schema).validate(response.json())


def bodies(schema: dict, image: bytes) -> list[list[tuple]]:
    """Every form that a description of multipart/form-data names, as files for httpx."""
    forms = []
    for form in schema.get("oneOf", [schema]):
        files = []
        for name, part in form["properties"].items():
            count = 3 if part["type"] == "array" else 1
            files += [(name, ("x", image))] * count
        forms.append(files)
    return forms


def test_a_client_that_knows_only_the_description_calls_every_path(client, described, encode):
    """Each parameter at an accepted value, each kind of body, each kind of answer."""
    image, asked = encode("JPEG"), 0
    for path, verbs in described["paths"].items():
        for verb, call in verbs.items():
            kinds = call["responses"]["200"]["content"]
            if verb == "get":
                for kind in kinds if path != "/metrics" else ():  # that answers only under a real server
                    response = client.get(path, headers={"Accept": kind})
                    assert response.status_code == 200
                    check(described, call, response)
                continue
            options = {one["name"]: example(one["schema"]) for one in call["parameters"]}
            options.pop("patient", None)
            if "licence" in options:
                options["licence"] = client.get("/").json()["licences"][0]
            for accept in kinds:
                for kind, body in call["requestBody"]["content"].items():
                    if kind.startswith("multipart/"):
                        sent = [{"files": files} for files in bodies(body["schema"], image)]
                    else:
                        sent = [{"content": image, "headers": {"Content-Type": kind}}]
                    for request in sent:
                        headers = {**request.pop("headers", {}), "Accept": accept}
                        response = client.post(path, params=options, headers=headers, **request)
                        assert response.status_code == 200, response.text
                        assert response.headers["content-type"].startswith(accept)
                        check(described, call, response)
                        asked += 1
    assert asked >= 4 + 2 * 3 + 3


def test_refusals_are_as_described_too(client, described, encode):
    for path in ("/predict", "/explain", "/similar"):
        call = described["paths"][path]["post"]
        for body, kind, query in (
            (b"", "image/png", ""),
            (encode(), "text/plain", ""),
            (encode(), "image/png", "?x=1"),
        ):
            response = client.post(path + query, content=body, headers={"Content-Type": kind})
            assert response.status_code in (400, 415)
            check(described, call, response)


def test_labels_and_points_are_those_of_the_loaded_model(described, client):
    labels = next(p for p in described["paths"]["/explain"]["post"]["parameters"] if p["name"] == "label")
    assert labels["schema"]["enum"] == client.get("/").json()["labels"]


def test_what_has_no_effect_is_named(client, encode):
    """Somebody who sends an age to a model that was trained without must not believe that it counted."""
    response = client.post("/predict?age=63&mask=rle", content=encode(), headers=RAW)
    assert response.json()["options_ignored"] == ["age", "mask"]


def test_every_answer_is_in_the_same_envelope_and_says_its_purpose_once(indexed, make_client, encode):
    """A program that reads one path finds at every other who answered, what to mind, and that it is for research."""
    client, image = make_client(indexed), encode()
    answers = {
        "one": client.post("/predict", content=image, headers=RAW),
        "several": client.post("/predict", files=[("image", image), ("image", image)]),
        "explained": client.post("/explain", content=image, headers={**RAW, "Accept": "application/json"}),
        "similar": client.post("/similar", content=image, headers=RAW),
    }
    card = client.get("/").json()
    for name, response in answers.items():
        said = response.json()
        assert set(Envelope.model_fields) <= set(said), name
        assert response.text.count(RESEARCH_USE) == response.text.count('"research_use"') == 1, name
        assert '"note"' not in response.text, name
        assert (said["model_version"], said["for_synthetic_images"]) == (card["model_version"], True), name
        assert [w for w in said["warnings"] if w != NO_GATE] == [SYNTHETIC], name


def test_a_model_for_real_images_warns_of_nothing(make_client, write_bundle, tmp_path, encode):
    client = make_client(write_bundle(tmp_path / "bundle", recipe_name="strong"))
    said = client.post("/predict", content=encode(), headers=RAW).json()
    assert (said["for_synthetic_images"], said["warnings"]) == (False, [NO_GATE])


def test_a_new_option_of_a_task_is_described_checked_and_shown_without_another_edit(bundle, encode):
    """Its author writes one line in the task's folder."""
    task = get_task("lesion_classification")
    zoom = Option("zoom", "how close", "number", low=1, high=9)
    own = replace(task, asking=replace(task.asking, options=(*task.asking.options, zoom)))
    with TestClient(make_service(own, bundle, name="zoomed").to_asgi(), base_url="http://127.0.0.1:3000") as client:
        described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
        asked = [client.post(f"/predict?zoom={zoom}", content=encode(), headers=RAW) for zoom in (3, 10)]
        card = client.get("/").json()
    assert next(p["schema"] for p in described if p["name"] == "zoom") == {"type": "number", "minimum": 1, "maximum": 9}
    assert [response.status_code for response in asked] == [200, 400]
    assert asked[0].json()["options_ignored"] == []
    assert any(option["name"] == "zoom" and option["used"] for option in card["options"])


def test_the_page_for_people_escapes_what_it_shows(client):
    shown = client.get("/docs", headers={"Accept": "text/html"})
    assert shown.status_code == 200
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    for path in ("/predict", "/explain", "/similar"):
        assert f"POST {path}" in shown.text
    assert "<script" not in shown.text
    assert "style=" not in shown.text


# --- several images, and explanations as numbers -------------------------------------------------------------------


def batch(client, *images: bytes, query: str = ""):
    return client.post(f"/predict{query}", files=[("image", ("name", data)) for data in images])


def test_a_batch_gives_for_each_image_what_it_alone_is_answered_with(client, encode):
    """In order; one that cannot be read costs the others nothing."""
    sound = [encode("JPEG", quality=q) for q in (30, 60, 90)] * 4
    sent = [*sound[:5], b"no image", *sound[5:]]
    response = batch(client, *sent)
    assert response.status_code == 200
    results = response.json()["results"]
    assert [r["number"] for r in results] == list(range(13))
    assert (results[5]["status"], "answer" in results[5]) == (400, False)
    assert results[5]["error"] == client.post("/predict", content=b"no image", headers=RAW).json()["error"]
    assert (response.json()["answered"], response.json()["refused"]) == (12, 1)
    for data, result in zip(sent, results, strict=True):
        if result["status"] == 200:
            alone = client.post("/predict", content=data, headers=RAW).json()
            assert result["answer"]["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-6)
    ids = {r["answer"]["prediction_id"] for r in results if r["status"] == 200}
    assert len(ids) == 12


def test_a_batch_of_more_than_64_images_is_refused_whole(client, encode):
    response = batch(client, *[encode("JPEG")] * 65)
    assert response.status_code == 400
    assert "at most 64" in response.json()["error"]


def test_a_batch_has_a_size_too(make_client, indexed, encode):
    response = batch(make_client(indexed, body_bytes=20_000), *[bytes(9_000)] * 3)
    assert response.status_code == 413


def test_only_images_are_taken_by_several(client, encode):
    """An explanation is of one image; a batch sent there must not be answered for its first image alone."""
    assert client.post("/explain", files=[("image", ("a", encode()))] * 2).status_code == 415
    assert client.post("/similar", files=[("image", ("a", encode()))]).status_code == 415


def test_an_explanation_as_numbers_is_the_answer_s_and_has_the_size_asked_for(client, encode):
    big = np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8)
    body, headers = encode("PNG", rgb=big), {"Content-Type": "image/png", "Accept": "application/json"}
    said = client.post("/explain?label=nevus&size=100", content=body, headers=headers).json()
    alone = client.post("/predict", content=body, headers=RAW).json()
    assert said["answer"]["probabilities"] == alone["probabilities"]
    (layer,) = said["layers"]
    assert (said["width"], said["height"]) == (400, 300)
    assert (layer["label"], layer["probability"]) == ("nevus", alone["probabilities"]["nevus"])
    assert np.shape(layer["map"]) == tuple(layer["grid"]) == (4, 4)
    assert (layer["overlay"]["width"], layer["overlay"]["height"]) == (100, 75)
    drawn = np.asarray(Image.open(io.BytesIO(client.post("/explain?size=100", content=body, headers=RAW).content)))
    assert (drawn[:75, :100] != 255).all(axis=2).mean() > 0.9
    assert (drawn[:75, 100:COLUMN] == 255).all()
