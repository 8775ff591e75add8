"""Runs as people launch them: through webserver, queue and daemon, each in a process of its own, trained by workers.

`execute_in_process` meets none of this: all training from the UI was once broken while every test passed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from derm_assets.launching import Dagster, follow, services
from derm_assets.resources.places import PROJECT, Places
from derm_ml.registry import get_task

ALL = "__ASSET_JOB"  # what the button "Materialize" launches
# one worker whatever the number of cores; one thread, so that weights can be compared bit by bit
WORKER = {"workers": 1, "precision": "32-true"}
HEADS = {  # task → recipe values, one for each kind of head
    "lesion_classification": {"drawn": {"epochs": 1, "side": 32, **WORKER}},  # softmax
    "retinal_findings": {"drawn": {"epochs": 1, "side": 64, **WORKER}},  # sigmoid
    "persistent_conditions": {  # pairs
        "learned": {"epochs": 1, "side": 84, "pairs_per_photo": 1, "batch_size": 8, "visits": 1, **WORKER}
    },
}


@dataclass
class Installation:
    """A Dagster of its own below a folder; `start` runs it as `make dev` does, `kill` is a power cut."""

    places: Places
    instance: dg.DagsterInstance
    log: Path
    said: list[str] = field(default_factory=list)
    running: ExitStack = field(default_factory=ExitStack)
    dagster: Dagster | None = None

    def start(self) -> None:
        self.running = ExitStack()
        self.dagster = self.running.enter_context(services(self.log))

    def launch(self, *nouns: str, task: str, recipe: Mapping[str, Any] | None = None, op: str = "model") -> str:
        assert self.dagster is not None
        config = {"ops": {f"{task}__{op}": {"config": {"recipe": recipe}}}} if recipe else {}
        return self.dagster.launch(ALL, config, [dg.AssetKey([task, noun]) for noun in nouns])

    def end(self, run_id: str) -> dg.DagsterRunStatus:
        self.said.clear()
        return follow(self.instance, run_id, self.said.append)

    def succeed(self, run_id: str) -> None:
        assert self.end(run_id) == dg.DagsterRunStatus.SUCCESS, "\n".join(self.said)

    def metadata(self, task: str, noun: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey([task, noun]))
        assert event is not None
        assert event.asset_materialization is not None
        return dict(event.asset_materialization.metadata)


@pytest.fixture(scope="module")
def installation(tmp_path_factory, fresh_database) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("installation")
    settings = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    settings["run_monitoring"] |= {"poll_interval_seconds": 1, "free_slots_after_run_end_seconds": 1}
    (root / "dagster").mkdir()
    (root / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))
    (root / "home" / "mlflow").mkdir(parents=True)
    shutil.copyfile(fresh_database, root / "home" / "mlflow" / "mlflow.db")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("data", "out", "home"):
            environment.setenv(f"DERM_{name.upper()}", str(root / name))
        environment.setenv("DAGSTER_HOME", str(root / "dagster"))
        environment.setenv("BENTOML_HOME", str(root / "bentoml"))
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.setenv("MKL_NUM_THREADS", "1")
        with dg.DagsterInstance.get() as instance:
            made = Installation(Places.from_environment(), instance, root / "dagster.log")
            made.start()
            try:
                yield made
            finally:
                made.running.close()


def put_raw(installation: Installation, task: str, n: int = 48) -> None:
    raw = installation.places.raw(get_task(task)) / "downloaded"
    if not raw.exists():
        get_task(task).draw(raw, n, seed=1)


@pytest.mark.parametrize("task", HEADS)
def test_a_launched_run_trains_a_network_of_every_kind_of_head(installation, task):
    put_raw(installation, task)
    installation.succeed(installation.launch("dataset", "model", task=task, recipe=HEADS[task]))
    assert Path(installation.metadata(task, "model")["path"].value, "bundle.json").is_file()


def test_a_launched_run_trains_an_autoencoder(installation):
    put_raw(installation, "lesion_classification")
    recipe = {"drawn_autoencoder": {"epochs": 1, "side": 32, **WORKER}}
    installation.succeed(
        installation.launch("dataset", "autoencoder", task="lesion_classification", recipe=recipe, op="autoencoder")
    )
