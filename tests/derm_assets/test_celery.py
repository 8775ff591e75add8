"""Steps that workers of Celery do, as `DERM_EXECUTOR=celery` asks: a run through queue, broker and worker.

The broker is a folder, which needs no server. Skipped where dagster-celery is not installed (`pip install
'derm-platform[celery]'`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from derm_assets.executing import EXECUTOR
from derm_assets.resources.trainer import SETTING
from derm_ml.places import CELERY
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")
RECIPE = {"epochs": 1, "side": 32, "workers": 1, "precision": "32-true"}
WORKER = "from dagster_celery.cli import main; main()"


@pytest.fixture(scope="module")
def broker(slow, tmp_path_factory) -> Path:
    """The file that Dagster and its workers read, of a broker that is a folder."""
    pytest.importorskip("dagster_celery", reason="pip install 'derm-platform[celery]'")
    root = tmp_path_factory.mktemp("broker")
    folders = {f"data_folder_{way}": str(root / "queue") for way in ("in", "out")}
    folders["control_folder"] = str(root / "control")
    for folder in (*folders.values(), root / "results"):
        Path(folder).mkdir(exist_ok=True)
    settings = {
        "broker": "filesystem://",
        "backend": f"file://{root}/results",
        "config_source": {"broker_transport_options": folders},
    }
    (root / "celery.yaml").write_text(yaml.safe_dump({"execution": {"config": settings}}))
    return root / "celery.yaml"


@pytest.fixture(scope="module")
def operator(broker):
    return {EXECUTOR: "celery", CELERY: str(broker), SETTING: "subprocess"}, {}


@pytest.fixture(scope="module")
def worker(broker, installation) -> Iterator[psutil.Process]:
    """A worker as docs/scaling.md says that one is started."""
    command = [sys.executable, "-c", WORKER, "worker", "start", "-A", "dagster_celery.app", "-y", str(broker)]
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (broker.parent / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--", "--concurrency=2"], env=os.environ | {"PATH": programs}, start_new_session=True,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def workers_of(installation, run_id: str) -> list[str]:
    """The steps that a worker said to have begun."""
    logs = installation.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    return [entry.step_key for entry in logs if "in celery worker" in entry.dagster_event.message]


def test_a_worker_does_the_steps_of_a_run(installation, worker):
    TASK.draw(installation.places.raw(TASK) / "downloaded", 48, seed=1)
    run = installation.launch("dataset", "model", task=TASK.name, recipe={"drawn": RECIPE})
    installation.succeed(run)
    assert workers_of(installation, run) == [f"{TASK.name}__{noun}" for noun in ("dataset", "data_rules", "model")]
    assert Path(installation.metadata(TASK.name, "model")["path"].value).exists()


def test_what_a_step_refuses_reaches_the_run_through_the_worker(installation, worker):
    installation.refuses_an_uneven_batch(TASK)
