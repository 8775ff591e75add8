"""From a laptop to two machines by settings: Postgres and an object store on this machine, nothing else shared.

Each machine has folders of its own, as another machine would. Skipped where Postgres, an S3 server (`pip install
'moto[s3,server]'`) or the extras `postgres` and `s3` are not installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from derm_assets.resources.dagster_storage import StorageError, StorageOfSettings
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_ml.addresses import database_url
from derm_ml.places import ARTIFACTS, DAGSTER_STORAGE, PROJECT

REGISTER = """
import sys
from pathlib import Path
from derm_assets.resources.datasets import evaluation_of
from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.registry import get_task
bundle, task = Path(sys.argv[1]), get_task("lesion_classification")
print(ModelRegistry.from_environment().register(task, bundle, evaluation_of(bundle)).number)
"""
READ = """
from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.bundles.bundle import Bundle
from derm_ml.promotion import CHALLENGER
from derm_ml.registry import get_task
stored = ModelRegistry.from_environment().version(get_task("lesion_classification"), CHALLENGER)
print(Bundle.open(stored.bundle).version)
"""
KEEP = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    instance.report_runless_asset_event(dg.AssetMaterialization("everywhere"))
"""
LOOK = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    print(instance.get_latest_materialization_event(dg.AssetKey("everywhere")) is not None)
"""


def programs() -> Path:
    """Where Debian keeps Postgres' programs, or where they are on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("no Postgres server on this machine (apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).parent


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


@pytest.fixture(scope="module")
def postgres(slow) -> Iterator[str]:
    """A Postgres of its own on a free port with the databases `dagster` and `mlflow`; its URL without a database."""
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
            for database in ("dagster", "mlflow"):
                made = [str(where / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "derm", database]
                while subprocess.run(made, capture_output=True).returncode:
                    time.sleep(0.2)
            yield f"postgresql://derm@127.0.0.1:{port}"


@pytest.fixture(scope="module")
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


def test_two_machines_share_runs_and_models_by_settings_alone(postgres, objects, colour_models, tmp_path):
    """Written by one, read by the other, whose folders hold nothing of it; no address names psycopg2."""
    shared = {
        DAGSTER_STORAGE: f"{postgres}/dagster", "MLFLOW_TRACKING_URI": f"{postgres}/mlflow",
        ARTIFACTS: "s3://derm/mlflow", **objects,
    }  # fmt: skip

    def on(machine: str, script: str, *arguments: str) -> str:
        root = tmp_path / machine
        (root / "dagster").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / "dagster.yaml", root / "dagster" / "dagster.yaml")
        own = {f"DERM_{name.upper()}": str(root / name) for name in ("data", "out", "home")}
        own["DAGSTER_HOME"] = str(root / "dagster")
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **shared, **own})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    mine = Path(shutil.copytree(colour_models["good"], tmp_path / "first" / "model"))
    assert on("first", REGISTER, str(mine / "bundle")) == "1"
    on("first", KEEP)
    shutil.rmtree(tmp_path / "first")
    from derm_ml.bundles.bundle import Bundle

    assert on("second", READ) == Bundle.open(colour_models["good"] / "bundle").version
    assert on("second", LOOK) == "True"
    assert not list((tmp_path / "second").rglob("*.db")), "something was kept in sqlite"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgresql://a:b@c/d?x=1", "postgresql+psycopg2://a:b@c/d?x=1"),
        ("postgres://c/d", "postgresql+psycopg2://c/d"),
        ("postgresql+psycopg2://c/d", "postgresql+psycopg2://c/d"),
        ("postgresql+psycopg://c/d", "postgresql+psycopg://c/d"),
        ("http://server:5000", "http://server:5000"),
        ("sqlite:////x/y.db", "sqlite:////x/y.db"),
        ("", ""),
    ],
)
def test_a_postgres_address_without_a_driver_means_the_one_that_is_installed(given, meant):
    assert database_url(given) == meant


def test_the_registry_takes_its_address_and_its_files_place_from_the_settings(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " postgresql://derm@db/mlflow ")
    monkeypatch.setenv(ARTIFACTS, "s3://derm/mlflow/")
    registry = ModelRegistry.from_environment()
    assert (registry.uri, registry.artifacts) == ("postgresql+psycopg2://derm@db/mlflow", "s3://derm/mlflow/")
    assert not registry.is_server


def test_files_go_where_the_setting_says(places, fresh_database, tmp_path):
    """A database that several machines use named a folder of the first of them."""
    from derm_ml.registry import get_task

    database = shutil.copyfile(fresh_database, tmp_path / "shared.db")
    registry = ModelRegistry(places=Places(**places.model_dump()), tracking_uri=f"sqlite:///{database}",
                             artifacts=f"file://{tmp_path}/objects")  # fmt: skip
    task = get_task("lesion_classification")
    run = registry.begin(task, tmp_path / "model", task.recipe("drawn"), {})
    stored = registry.client.get_run(run.id).info.artifact_uri
    assert stored.startswith(f"file://{tmp_path}/objects/lesion_classification/")


def test_a_storage_that_cannot_be_had_is_one_sentence(monkeypatch):
    monkeypatch.setenv(DAGSTER_STORAGE, "mysql://someone:secret@db/dagster")
    with pytest.raises(StorageError, match="begins with 'mysql': write postgresql://USER:PASSWORD@HOST") as said:
        StorageOfSettings.from_config_value(None, {})
    assert "secret" not in str(said.value)
    monkeypatch.setenv(DAGSTER_STORAGE, "postgresql://db/dagster")
    monkeypatch.setitem(sys.modules, "dagster_postgres", None)
    with pytest.raises(StorageError, match="dagster_postgres is not installed: pip install 'derm-"):
        StorageOfSettings.from_config_value(None, {})
