"""A place of its own for every test; the MLflow database is migrated once and copied."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import yaml

from derm_assets.assets import line
from derm_assets.launching import Dagster, follow, services
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.promotions import Promotions
from derm_assets.resources.trainer import Trainer
from derm_ml.data.dataset import freeze
from derm_ml.places import PROJECT
from derm_ml.registry import get_task

ALL = "__ASSET_JOB"  # what the button "Materialize" launches
TASK = get_task("lesion_classification")


@pytest.fixture(scope="session")
def fresh_database(made_once) -> Path:
    """An empty MLflow database whose migrations (10 s and more) were paid for once."""

    def make(home: Path) -> None:
        ModelRegistry(places=Places(data="", out="", home=str(home))).client.search_experiments()

    return made_once("mlflow", make) / "mlflow" / "mlflow.db"


@pytest.fixture
def places(tmp_path, monkeypatch) -> Places:
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))  # where services look for what is released
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    return Places(data=str(tmp_path / "data"), out=str(tmp_path / "out"), home=str(tmp_path / "home"))


@pytest.fixture
def registry(places, fresh_database) -> ModelRegistry:
    (Path(places.home) / "mlflow").mkdir(parents=True)
    shutil.copyfile(fresh_database, Path(places.home) / "mlflow" / "mlflow.db")
    return ModelRegistry(places=places)


@pytest.fixture
def model(places, colour_models, tinted_dataset) -> Callable[[str], Path]:
    """The bundle of an evaluated model by name, in `out/`; its data are prepared and frozen as `derm prepare` does."""
    shutil.copytree(tinted_dataset.path, places.prepared(TASK))
    freeze(places.prepared(TASK), places.version(TASK, tinted_dataset.md5))

    def copied(name: str) -> Path:
        folder = Path(places.out) / TASK.name / name
        if not folder.exists():
            shutil.copytree(colour_models[name], folder)
        return folder / "bundle"

    return copied


@pytest.fixture
def promotions(registry) -> Promotions:
    return Promotions(registry)


@pytest.fixture
def resources(places, registry) -> dict[str, dg.ConfigurableResource]:
    return {"places": places, "store": DataStore(places=places), "trainer": Trainer(), "registry": registry}


@pytest.fixture
def definitions(resources) -> dg.Definitions:
    return dg.Definitions.merge(line(TASK), dg.Definitions(resources=resources, executor=dg.in_process_executor))


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


@dataclass
class Installation:
    """A Dagster of its own below a folder; `start` runs it as `make dev` does."""

    places: Places
    instance: dg.DagsterInstance
    log: Path
    said: list[str] = field(default_factory=list)
    running: ExitStack = field(default_factory=ExitStack)
    dagster: Dagster | None = None

    def start(self) -> None:
        self.running = ExitStack()
        self.dagster = self.running.enter_context(services(self.log))

    def power_cut(self) -> None:
        assert self.dagster is not None
        os.killpg(self.dagster.process_group, signal.SIGKILL)
        self.running.close()

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
def operator() -> tuple[dict[str, str], dict[str, Any]]:
    """What is set before Dagster starts: variables, and sections of params.yaml."""
    return {}, {}


@pytest.fixture(scope="module")
def installation(slow, tmp_path_factory, fresh_database, operator) -> Iterator[Installation]:
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
        variables, params = operator
        for name, value in variables.items():
            environment.setenv(name, value)
        project = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
        (root / "params.yaml").write_text(yaml.safe_dump(project | params), encoding="utf-8")
        with dg.DagsterInstance.get() as instance:
            made = Installation(Places.from_environment(), instance, root / "dagster.log")
            made.start()
            try:
                yield made
            finally:
                made.running.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ended(command: list[str], **options) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def objects(slow) -> Iterator[dict[str, str]]:
    """An S3 server on a free port with the bucket `derm`, and the settings by which it is reached."""
    if not find_spec("boto3"):
        pytest.skip("boto3 is not installed (pip install 'derm-platform[s3]')")
    if not (program := shutil.which("moto_server")):
        pytest.skip("no S3 server on this machine (pip install 'moto[s3,server]')")
    address = f"http://127.0.0.1:{(port := free_port())}"
    with ended([program, "-H", "127.0.0.1", "-p", str(port)]) as server:
        while server.poll() is None:
            try:
                httpx.put(f"{address}/derm").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield {
            "MLFLOW_S3_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "derm", "AWS_SECRET_ACCESS_KEY": "derm",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
