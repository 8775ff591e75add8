"""Every task through one real pipeline: generate, prepare, train, evaluate, ask the service.

A sixth task is taken through it without a line of new test code; what one task does beyond it has tests of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from derm_ml.bundles.bundle import Bundle
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import save as save_report
from derm_ml.progress import EpochReport
from derm_ml.registry import all_tasks
from derm_ml.task import Task
from serving.factory import make_service

SAMPLES = 60
ASKED = 4  # held-out cases sent to the service: a case of every class takes no more time than one


@dataclass(frozen=True)
class Pipeline:
    """One task, trained as `derm draw`, `prepare`, `fit --recipe drawn` and `evaluate` do it."""

    task: Task
    dataset: Dataset
    bundle: Path
    epochs: list[EpochReport]
    evaluation: Evaluation


@pytest.fixture(scope="module", params=list(all_tasks().values()), ids=lambda task: task.name)
def pipeline(slow, request, tmp_path_factory) -> Pipeline:
    task: Task = request.param
    folder = tmp_path_factory.mktemp(task.name)
    task.draw(folder / "raw", SAMPLES, seed=2)
    dataset = prepare(task, folder / "raw", task.settings(), folder / "data")
    epochs: list[EpochReport] = []
    values = {name: 2 for name in ("epochs",) if name in task.recipes["drawn"].paths()}
    bundle = task.fit(dataset, task.recipe("drawn", **values), folder / "model", epochs.append)
    return Pipeline(task, dataset, bundle, epochs, task.evaluate(task.load(bundle), dataset, "test"))


def test_the_synthetic_set_passes_the_task_s_own_checks(pipeline):
    assert [r.name for r in pipeline.task.rules if r.stops(r.check(pipeline.dataset))] == []


def test_the_bundle_names_its_task_its_recipe_and_its_data(pipeline):
    card = Bundle.open(pipeline.bundle).card
    assert (card.task, card.recipe_name, card.dataset_md5) == (pipeline.task.name, "drawn", pipeline.dataset.md5)
    assert card.split_hashes == pipeline.dataset.split_hashes


def test_the_primary_metric_is_measured_with_n_and_an_interval(pipeline):
    """Promotion compares it: a task that leaves it out promotes nothing, and says so only then."""
    metric = pipeline.evaluation.metrics[pipeline.task.primary_metric]
    assert metric.n > 0
    assert metric.value is None or metric.low <= metric.value <= metric.high
    assert set(pipeline.evaluation.predictions["id"].astype(str)) != set()


def test_every_gate_reads_an_evaluation_of_an_untrained_model_too(pipeline):
    """A gate that raises would end a run in a traceback, after the training."""
    assert all(gate.check(pipeline.evaluation).message for gate in pipeline.task.gates)


def test_an_evaluation_survives_its_files(pipeline, tmp_path):
    folder = save_report(pipeline.evaluation, tmp_path / "evaluation")
    loaded = Evaluation.load(folder)
    assert loaded.metrics == pipeline.evaluation.metrics
    assert all(gate.check(loaded) == gate.check(pipeline.evaluation) for gate in pipeline.task.gates)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Research use only" in page
    assert loaded.provenance == pipeline.evaluation.provenance
    assert loaded.provenance.trained.seconds == pytest.approx(sum(epoch.seconds for epoch in pipeline.epochs))
    assert loaded.provenance.images == pipeline.dataset.info["sizes"]
    assert "not recorded" not in page


def test_the_service_answers_what_was_evaluated_and_explains_it(pipeline):
    """Train and serve are one code path: what the report promises is what the endpoint does."""
    task = pipeline.task
    service = make_service(task, pipeline.bundle, name=f"contract_{task.name}")
    uploads = list(task.held_out(pipeline.dataset, pipeline.evaluation, ASKED))
    assert len(uploads) == min(ASKED, pipeline.evaluation.n)
    with TestClient(service.to_asgi(), base_url="http://127.0.0.1") as client:
        for upload in uploads:
            sent = {"content": upload.body, "params": upload.query, "headers": {"content-type": upload.content_type}}
            answer = client.post(upload.path, **sent)
            assert answer.status_code == 200, answer.text
            assert answer.json()["research_use"].startswith("Research use only")
            assert dict(task.numbers(answer.json())) == pytest.approx(dict(upload.expected), abs=1e-5)
            assert upload.expected
        picture = client.post("/explain", **sent)
        broken = client.post(upload.path, content=b"no image", headers={"content-type": "image/jpeg"})
    assert picture.status_code == 200
    assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR) is not None
    assert 400 <= broken.status_code < 500
