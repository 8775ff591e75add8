"""What a reviewer reads of a version in MLflow, and MLflow's own tools on a registered bundle."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
import pandas as pd
import pytest

from derm_assets.packaging import built_of, release
from derm_assets.resources.datasets import evaluation_of
from derm_assets.resources.promotions import Promotions
from derm_assets.resources.version_page import fitting
from derm_ml.bundles.bundle import Bundle, BundleError
from derm_ml.evaluation.record import Evaluation
from derm_ml.places import python_path
from derm_ml.registry import get_task
from serving.released import bento_folder

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
WHY = "false alarms in clinic 3"


def page(registry, number: int):
    return registry.client.get_model_version(TASK.name, str(number))


def image_of(dataset) -> bytes:
    return dataset.read(dataset.split("test").iloc[0])


@pytest.fixture
def tracked(registry, monkeypatch) -> None:
    """MLflow's fluent functions, pointed at the registry as a user does.

    `set_tracking_uri` would set the variable for all tests after this one.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)


def test_a_version_says_what_it_measures_and_on_what(registry, promotions, model, tinted_dataset):
    """Who decides on a challenger in MLflow must not have to look for the numbers elsewhere."""
    bundle = model("good")
    version = promotions.register(TASK, bundle, evaluation_of(bundle), links={"dagster_run": "http://here/runs/1"})
    tags, measured = page(registry, version.number).tags, Evaluation.load(evaluation_of(bundle))
    assert tags["primary_metric"] == "auc_mean"
    assert tags["primary"] == str(measured.metrics["auc_mean"])
    assert float(tags["primary_low"]) < float(tags["primary_value"]) < float(tags["primary_high"])
    assert int(tags["primary_n"]) == measured.n
    assert tags["dagster_run"] == "http://here/runs/1"
    assert (tags["state"], tags["release"]) == ("candidate", "not released")
    run = registry.client.get_run(page(registry, version.number).run_id)
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == (TASK.name, tinted_dataset.md5[:36])
    assert json.loads(used.dataset.profile)["images"] == tinted_dataset.info["sizes"]


def test_its_description_is_the_model_card(registry, promotions, model):
    """And all forms of both cards lie beside the bundle, for whoever has MLflow alone."""
    bundle = model("good")
    version = page(registry, promotions.register(TASK, bundle, evaluation_of(bundle)).number)
    assert version.description == (bundle.parent / "cards" / "model_card.md").read_text(encoding="utf-8")
    assert "**intended use**: Research on" in version.description
    cards = registry.client.list_artifacts(version.run_id, f"cards-{version.tags['evaluation_sha256'][:12]}")
    assert {Path(item.path).name for item in cards} == {path.name for path in (bundle.parent / "cards").iterdir()}


def test_versions_compare_side_by_side(registry, promotions, model):
    """Numbers that lie in a run are not shown beside those of another model."""
    for name in ("fair", "good"):
        promotions.register(TASK, model(name), evaluation_of(model(name)))
    experiment = registry.client.get_experiment_by_name(TASK.name).experiment_id
    logged = registry.client.search_logged_models(
        [experiment], order_by=[{"field_name": "metrics.test_auc_mean", "ascending": False}]
    )
    expected = [Bundle.open(model(name)).version for name in ("good", "fair")]
    assert [one.tags["model_version"] for one in logged] == expected
    assert all({"test_auc_mean", "test_ece"} <= {m.key for m in one.metrics} for one in logged)
    assert all(one.status == "READY" for one in logged)


def test_the_tags_follow_release_rollback_and_withdrawal(registry, promotions, model):
    """A reviewer who reads "champion" beside a version that was withdrawn lets it answer again."""

    def shown(number: int) -> tuple[str, ...]:
        return tuple(page(registry, number).tags.get(name, "") for name in ("state", "release", "bento"))

    tags = {}
    for number, name in enumerate(("fair", "good"), start=1):
        promotions.promote(TASK, model(name))
        tags[number] = f"{TASK.name}:{name}"
        bento_folder(tags[number]).mkdir(parents=True)
        (bento_folder(tags[number]) / "bento.yaml").touch()
        release(TASK.name, tags[number], built_of(Bundle.open(model(name)).version, "e" * 64))
        promotions.show(TASK)
    assert shown(1) == ("former champion", "released before", tags[1])
    assert shown(2) == ("champion", "released", tags[2])
    promotions.rollback(TASK, WHY)
    assert shown(1) == ("champion", "released", tags[1])
    assert shown(2) == ("withdrawn", "released before", tags[2])
    promotions.rollback(TASK, WHY, leave_empty=True)
    assert shown(1) == ("withdrawn", "released before", tags[1])
    promotions.reinstate(TASK, 2, "it was the camera")
    assert shown(2)[0] == "former champion"


def test_tags_that_cannot_be_written_undo_nothing(registry, promotions, model, monkeypatch, caplog):
    """The champion has moved and stands in the ledger: an error here would say the opposite."""
    from derm_assets.resources.mlflow_client import RegistryError

    def gone(*_: object) -> None:
        raise RegistryError("the registry is down")

    monkeypatch.setattr(type(registry), "show", gone)
    assert promotions.promote(TASK, model("good")).promote
    assert "were not brought up to date: the registry is down" in caplog.text


def test_mlflow_runs_a_registered_version(registry, promotions, model, tinted_dataset, tracked):
    """A data scientist who has MLflow and not our service."""
    promotions.promote(TASK, model("good"))
    loaded = mlflow.pyfunc.load_model(f"models:/{TASK.name}@champion")
    found = loaded.predict(pd.DataFrame({"image": [image_of(tinted_dataset), b"no image"]}))
    case = str(tinted_dataset.split("test").iloc[0]["id"])
    said = Evaluation.load(evaluation_of(model("good"))).predictions.set_index("id").loc[case]
    for label in TASK.labels:
        assert found.at[0, f"p.{label}"] == pytest.approx(said[f"p.{label}"], abs=1e-6)
    assert json.loads(found.at[0, "answer"])["model_version"] == Bundle.open(model("good")).version
    assert found.at[1, "answer"] is None
    assert "JPEG, PNG or DICOM" in found.at[1, "error"]
    assert [column.name for column in loaded.metadata.signature.inputs] == ["image", "abstained"]


def test_mlflow_does_not_run_a_bundle_that_was_changed(registry, promotions, model, tracked):
    promotions.promote(TASK, model("good"))
    (promotions.champion(TASK) / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(BundleError, match="its sha256 is not the one in"):
        mlflow.pyfunc.load_model(f"models:/{TASK.name}@champion")


def test_a_restored_bundle_can_be_run_by_mlflow_again(registry, promotions, model, tracked):
    promotions.promote(TASK, model("good"))
    shutil.rmtree(promotions.champion(TASK))
    promotions.doctor(TASK, repair=True, why="disk")
    assert mlflow.pyfunc.load_model(f"models:/{TASK.name}@champion")


@contextmanager
def running(log: Path, uri: str, *command: str) -> Iterator[str]:
    """`mlflow …` in a process of its own, answering at /health; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": python_path(), "PATH": programs}
    whole = [sys.executable, "-m", "mlflow", *command, "--port", str(port), "--host", "127.0.0.1"]
    with log.open("w") as output:
        server = subprocess.Popen(whole, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield url
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


def test_mlflow_serves_a_registered_version(registry, promotions, model, tinted_dataset, tmp_path):
    """`mlflow models serve` in a process of its own, asked as its documentation says."""
    promotions.promote(TASK, model("good"))
    serve = ("models", "serve", "-m", f"models:/{TASK.name}/1", "--env-manager", "local")
    with running(tmp_path / "log", registry.uri, *serve) as url:
        image = base64.b64encode(image_of(tinted_dataset)).decode()
        asked = {"dataframe_split": {"columns": ["image"], "data": [[image]]}}
        answer = httpx.post(f"{url}/invocations", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text + (tmp_path / "log").read_text()
    (said,) = answer.json()["predictions"]
    assert json.loads(said["answer"])["model_version"] == Bundle.open(model("good")).version


def test_a_server_takes_a_version_too(registry, places, model, tmp_path):
    """A server checks more than its database does: where the files of a version lie, for one."""
    database = Path(places.home) / "mlflow" / "mlflow.db"
    options = ("--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(tmp_path / "kept"))
    with running(tmp_path / "log", "", "server", *options, "--serve-artifacts", "--workers", "1") as url:
        remote = type(registry)(places=places, tracking_uri=url)
        there = Promotions(remote)
        there.promote(TASK, model("good"))
        (version,) = there.registered(TASK)
        assert version.state == "champion"
        assert page(remote, 1).tags["primary_metric"] == "auc_mean"
        assert "MLmodel" in {path.name for path in there.champion(TASK).iterdir()}


def test_a_long_description_is_cut_for_stores_that_refuse_it():
    """Postgres takes 5000 characters: a model card is longer, and registering failed."""
    card = "# A card\n\n" + "A line of it, with ä and ×.\n" * 400
    cut = fitting(card)
    assert len(cut) <= 5000
    assert cut.endswith("among the files of its run.")
    assert card.startswith(cut.partition("\n\n…")[0])
    assert fitting("short") == "short"
