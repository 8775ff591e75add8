"""POST /similar: the same neighbours as offline, never the patient's own, and plain refusals."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from derm_ml import RESEARCH_USE
from derm_ml.bundles.classifier import Classifier
from derm_ml.embeddings.extract import table_of
from derm_ml.embeddings.similar import SimilarImages, build_similar, similar_answer
from derm_ml.images.decode import decode
from derm_ml.model_folder import ModelFolder
from derm_ml.neutral_ids import installation_ids


@pytest.fixture(scope="module")
def client(make_client, indexed):
    return make_client(indexed)


def ask(client, body: bytes, query: str = ""):
    return client.post(f"/similar{query}", content=body, headers={"Content-Type": "image/jpeg"})


def test_the_endpoint_says_what_the_library_says(client, indexed, encode):
    body = encode("JPEG", quality=90)
    predictor = Classifier(indexed)
    known = SimilarImages.open(ModelFolder.holding(indexed).index, predictor.bundle.version)
    said = ask(client, body, "?k=7")
    assert said.status_code == 200, said.text
    expected = similar_answer(known, predictor, decode(body), {"k": "7"})
    assert said.json()["neighbours"] == expected["neighbours"]
    assert len(expected["neighbours"]) == 7
    assert said.json()["research_use"] == RESEARCH_USE
    assert said.json()["model_version"] == predictor.bundle.version


def test_a_known_picture_does_not_find_itself_and_thumbnails_come_on_request(client, drawn_dataset):
    row = drawn_dataset.manifest.iloc[0]
    body = drawn_dataset.read(row)
    plain, pictured = ask(client, body).json(), ask(client, body, "?thumbnails=yes&k=2").json()
    assert plain["picture_is_in_the_set"]
    assert plain["left_out"] >= 1
    assert installation_ids().of("image", row["id"]) not in [n["id"] for n in plain["neighbours"]]
    assert row["id"] not in json.dumps(pictured)
    assert all("thumbnail" not in n for n in plain["neighbours"])
    head, _, data = pictured["neighbours"][0]["thumbnail"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert decode(base64.b64decode(data)).shape[2] == 3


@pytest.mark.parametrize(
    ("query", "word"),
    [("?k=0", "1 to 50"), ("?k=51", "1 to 50"), ("?k=many", "1 to 50"), ("?thumbnails=1", "yes or no"),
     ("?label=nevus", "unknown parameter"), ("?licence=GPL", "synthetic")],
)  # fmt: skip
def test_what_cannot_be_answered_is_a_sentence(client, encode, query, word):
    response = ask(client, encode("JPEG"), query)
    assert response.status_code == 400
    assert word in response.json()["error"]
    assert "GPL" not in response.json()["error"]


def test_without_an_index_predictions_go_on_and_similar_says_why_not(make_client, bundle, encode):
    client = make_client(bundle)
    assert client.post("/predict", content=encode(), headers={"Content-Type": "image/png"}).status_code == 200
    assert client.get("/").json()["similar_images"] == 0
    response = ask(client, encode("JPEG"))
    assert response.status_code == 503
    assert "without an index" in response.json()["error"]


def test_a_tampered_index_is_not_loaded_the_model_is(make_client, indexed, tmp_path, encode):
    copy = Path(shutil.copytree(indexed.parent, tmp_path / "model"))
    (ModelFolder(copy).index / "vectors.faiss").write_bytes(b"changed")
    client = make_client(copy / "bundle")
    assert client.get("/readyz").status_code == 200
    assert "damaged" in ask(client, encode("JPEG")).json()["error"]


def test_the_card_counts_the_images_and_names_their_licences(client, drawn_dataset):
    card = client.get("/").json()
    assert card["similar_images"] == len(drawn_dataset.manifest)
    assert card["licences"] == sorted(np.unique(drawn_dataset.manifest["licence"]))


def test_a_patient_is_left_out_by_id_or_by_neutral_id_and_an_unknown_secret_is_said(
    make_client, write_bundle, drawn_dataset, encode, tmp_path, monkeypatch
):
    """The caller has the hospital's id; the service may not have the secret that its index was made with."""
    bundle = write_bundle(tmp_path / "model" / "bundle")
    table = table_of(Classifier(bundle), drawn_dataset, ModelFolder.holding(bundle))
    table.loc[table.index[:30], ["patient", "group"]] = ["4711", "g"]
    build_similar(table, drawn_dataset, ModelFolder.holding(bundle).index)
    neutral = installation_ids().of("patient", "4711")
    client, body = make_client(bundle), encode("JPEG")
    for patient in ("4711", "4711.0", neutral):
        assert ask(client, body, f"?patient={patient}").json()["left_out"] == 30
    assert ask(client, body, "?patient=4712").json()["left_out"] == 0
    monkeypatch.setenv("DERM_SECRET", "")
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))
    elsewhere = make_client(bundle)
    assert ask(elsewhere, body, f"?patient={neutral}").json()["left_out"] == 30
    refused = ask(elsewhere, body, "?patient=4711")
    assert refused.status_code == 400
    assert "has no secret" in refused.json()["error"]
    assert "4711" not in refused.json()["error"]
    assert not (tmp_path / "home").exists()  # a service makes no secret of its own
