"""A service that records its predictions, as its operator asked, and one that was not asked."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields

import numpy as np
import pytest
from starlette.testclient import TestClient

from derm_ml.answered.journal import Answered
from derm_ml.answered.table import records_below
from derm_ml.bundles.classifier import Classifier
from derm_ml.images.decode import decode
from derm_ml.registry import get_task
from serving.factory import make_service
from serving.recorder import RecorderError, days_kept

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def recording(monkeypatch, tmp_path, bundle):
    """`recording(name)`: a client of a service whose operator named a folder for records."""
    monkeypatch.setenv("DERM_RECORDS", str(tmp_path / "answered"))
    opened = []

    def make(name: str) -> TestClient:
        client = TestClient(make_service(TASK, bundle, name=name).to_asgi(), base_url="http://127.0.0.1:3000")
        opened.append(client.__enter__())
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def test_every_answer_has_its_record_when_it_arrives(recording, encode, bundle, tmp_path):
    client, body = recording("recorded_one"), encode("JPEG")
    answer = client.post("/predict?age=63&sex=female", content=body, headers=RAW).json()
    (row,) = records_below(tmp_path / "answered").to_dict("records")
    for name in ("prediction_id", "model_version", "dataset_md5", "bento", "task", "predicted"):
        assert row[name] == answer[name]
    assert list(row["images"]) == [hashlib.sha256(body).hexdigest()]
    assert {f"score.{label}": share for label, share in answer["probabilities"].items()}.items() <= row.items()
    np.testing.assert_allclose(row["embedding"], Classifier(bundle)([decode(body)]).embedding[0], rtol=1e-3)
    written = b"".join(path.read_bytes() for path in (tmp_path / "answered").rglob("*") if path.is_file())
    stored = json.loads(written)
    assert set(stored) == {"schema_version", *(field.name for field in fields(Answered))}
    assert b"female" not in written
    assert 63.0 not in stored["scores"].values()


def test_each_image_of_a_batch_has_a_record_of_its_own(recording, encode, picture, tmp_path):
    client = recording("recorded_batch")
    bodies = [encode("PNG"), b"no image", encode("PNG", rgb=255 - picture)]
    answer = client.post("/predict", files=[("image", (f"{n}.png", body)) for n, body in enumerate(bodies)]).json()
    rows = records_below(tmp_path / "answered").to_dict("records")
    told = [result["answer"]["prediction_id"] for result in answer["results"] if result["status"] == 200]
    assert [row["prediction_id"] for row in rows] == told
    assert [list(row["images"]) for row in rows] == [[hashlib.sha256(bodies[n]).hexdigest()] for n in (0, 2)]
    assert rows[0]["embedding"] != rows[1]["embedding"]
    assert "embedding" not in str(answer)


def test_a_full_disk_fails_no_answer(recording, encode, monkeypatch, caplog):
    client = recording("recorded_full")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("derm_ml.answered.journal.os.write", full)
        answers = [client.post("/predict", content=encode("JPEG"), headers=RAW) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    said = [record.getMessage() for record in caplog.records if "not recorded" in record.getMessage()]
    assert len(said) == 1
    assert "No space left on device" in said[0]


def test_a_folder_nobody_may_write_fails_no_answer(recording, encode, tmp_path, caplog):
    (tmp_path / "answered").write_text("a file where the folder should be")
    client = recording("recorded_nowhere")
    assert client.post("/predict", content=encode("JPEG"), headers=RAW).status_code == 200
    assert "predictions are answered and not recorded" in caplog.text


def test_nothing_is_recorded_unless_asked_for(client, encode, tmp_path, monkeypatch):
    """Hashes and embeddings of patients' images are kept by decision, not by default."""
    monkeypatch.delenv("DERM_RECORDS", raising=False)
    before = set(tmp_path.rglob("*"))
    assert client.post("/predict", content=encode("JPEG"), headers=RAW).status_code == 200
    assert set(tmp_path.rglob("*")) == before
    assert not os.path.exists(os.path.join(os.environ["DERM_HOME"], "answered"))


@pytest.mark.parametrize("given", ["ninety", "-1", "1.5", "9" * 9])
def test_a_wrong_number_of_days_is_a_sentence(monkeypatch, given):
    monkeypatch.setenv("DERM_RECORDS_DAYS", given)
    with pytest.raises(RecorderError, match="write whole days, such as 90"):
        days_kept()
