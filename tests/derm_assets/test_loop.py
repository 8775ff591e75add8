"""The platform by itself: webserver, queue and daemon run, a delivery arrives, and a person says one word."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.promotions import Promotions
from derm_ml.promotion import CHALLENGER, CHAMPION
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_segmentation")
RECIPE = {"drawn": {"epochs": 4, "side": 64, "batch_size": 8, "workers": 1, "precision": "32-true"}}
SETTINGS = {"automation": {TASK.name: {"new_patients": 1, "look_every": 1, "recipe": RECIPE}}}
NOT_A_NAME = ("first", "lesion_0000", "/tmp", "png", "jpg")  # of a delivery, an image, a folder


@dataclass
class Hook:
    """A webhook of the hospital: a server of its own, and what it received."""

    url: str = ""
    received: list[dict[str, str]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, str]]:
        return [notice for notice in self.received if notice["kind"] == kind]


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/derm"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def operator(hook) -> tuple[dict[str, str], dict[str, Any]]:
    return {"DERM_NOTICE_WEBHOOK": hook.url}, SETTINGS


def until(what, seconds: float = 900):
    """What it answers first that is not false; the limit is only there so that a broken product ends the test."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.3)
    raise AssertionError("it never came about")


def command(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_delivery_becomes_the_champion_with_one_word_of_a_person(installation, hook):
    """Whoever delivers images gets a model that was measured on them; nobody becomes champion unasked."""
    instance = installation.instance
    registry = ModelRegistry(places=installation.places)
    assert "lesion_segmentation_automation is on" in command("derm_assets.automate", TASK.name)
    TASK.draw(installation.places.incoming(TASK) / "first", 48, seed=1)

    (waiting,) = until(lambda: hook.of("challenger_waiting") or _failed(instance))
    assert registry.alias(TASK, CHALLENGER) == 1
    assert registry.alias(TASK, CHAMPION) is None
    assert "derm approve lesion_segmentation 1 --by NAME" in waiting["text"]
    assert "there is no champion yet" in waiting["text"]  # the comparison
    retrained = instance.get_run_by_id(waiting["link"].rpartition("/")[2])
    assert retrained.tags["derm/started_by"] == "automation"
    assert installation.metadata(TASK.name, "model")["recipe"].value["name"] == "drawn"
    assert "the dataset changed" in why(instance, "model")
    assert "patients the champion did not learn from: " in why(instance, "model")

    command("derm_ml.cli", "approve", TASK.name, "--by", "Dr Ada Example")
    until(lambda: registry.alias(TASK, CHAMPION) == 1 or _failed(instance))
    until(lambda: (made := instance.get_latest_materialization_event(dg.AssetKey([TASK.name, "bento"]))) and made)
    promoted = next(e for e in Promotions(registry).history(TASK) if e["event"] == "promoting")
    assert promoted["approved_by"] == "Dr Ada Example"
    assert "by Dr Ada Example" in why(instance, "promoted_model")
    runs = [run for run in instance.get_runs() if run.status == dg.DagsterRunStatus.SUCCESS]
    assert len(runs) <= 3, "prepare, retrain, promote: nothing was started twice"
    texts = json.dumps(hook.received)
    assert not [word for word in NOT_A_NAME if word in texts]
    assert Path(installation.metadata(TASK.name, "bento")["path"].value).is_file()


def why(instance: dg.DagsterInstance, noun: str) -> str:
    """The labels of the evaluation that requested a run, as the UI shows them below Automation."""
    key = dg.AssetKey([TASK.name, noun])
    records = instance.schedule_storage.get_auto_materialize_asset_evaluations(key, limit=200)
    evaluations = [record.get_evaluation_with_run_ids().evaluation for record in records]
    return " | ".join(_labels(next(e for e in evaluations if e.true_subset.size)))


def _labels(evaluation) -> Iterator[str]:
    yield evaluation.condition_snapshot.label or evaluation.condition_snapshot.name
    for child in evaluation.child_evaluations:
        yield from _labels(child)


def _failed(instance: dg.DagsterInstance) -> None:
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
        entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        raise AssertionError([entry.user_message or entry.dagster_event.step_failure_data.error for entry in entries])
