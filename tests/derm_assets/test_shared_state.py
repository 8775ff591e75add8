"""From a laptop to two machines by settings: Postgres and an object store on this machine, nothing else shared.

Each machine has folders of its own, as another machine would. Skipped where Postgres, an S3 server (`pip install
'moto[s3,server]'`) or the extras `postgres` and `s3` are not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from derm_assets.resources.dagster_storage import StorageError, StorageOfSettings
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_ml.addresses import database_url
from derm_ml.places import ARTIFACTS, DAGSTER_STORAGE, DVC_REMOTE, PROJECT, SHARED
from tests.derm_assets.conftest import ended, free_port

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


def machines(root: Path, settings: Mapping[str, str]) -> Callable[..., str]:
    """`on(machine, script, …)`: what a script prints in an installation of its own below `root` with these settings.

    `well=False` where it must fail.
    """

    def on(machine: str, script: str, *arguments: str, well: bool = True) -> str:
        (root / machine / "dagster").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / "dagster.yaml", root / machine / "dagster" / "dagster.yaml")
        own = {f"DERM_{name.upper()}": str(root / machine / name) for name in ("data", "out", "home")}
        own["DAGSTER_HOME"] = str(root / machine / "dagster")
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings, **own})
        assert (done.returncode == 0) == well, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    return on


def test_two_machines_share_runs_and_models_by_settings_alone(postgres, objects, colour_models, tmp_path):
    """Written by one, read by the other, whose folders hold nothing of it; no address names psycopg2."""
    shared = {
        DAGSTER_STORAGE: f"{postgres}/dagster", "MLFLOW_TRACKING_URI": f"{postgres}/mlflow",
        ARTIFACTS: "s3://derm/mlflow", **objects,
    }  # fmt: skip

    on = machines(tmp_path, shared)

    mine = Path(shutil.copytree(colour_models["good"], tmp_path / "first" / "model"))
    assert on("first", REGISTER, str(mine / "bundle")) == "1"
    on("first", KEEP)
    shutil.rmtree(tmp_path / "first")
    from derm_ml.bundles.bundle import Bundle

    assert on("second", READ) == Bundle.open(colour_models["good"] / "bundle").version
    assert on("second", LOOK) == "True"
    assert not list((tmp_path / "second").rglob("*.db")), "something was kept in sqlite"


WORK = """
import json, sys
import dagster as dg
from derm_assets.definitions import defs
from derm_ml.places import installation
from derm_ml.registry import get_task
task = get_task("lesion_classification")
recipe = json.loads(sys.argv[1] or "{}")
chosen = [dg.AssetKey([task.name, noun]) for noun in sys.argv[2:]]
if "dataset" in sys.argv:
    task.draw(installation().raw(task.name) / "downloaded", 75, seed=5)
config = {"ops": {f"{task.name}__model": {"config": {"recipe": {"drawn": recipe}}}}} if "model" in sys.argv else {}
with dg.DagsterInstance.get() as instance:
    job = defs().resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(run_config=config, instance=instance, asset_selection=chosen, raise_on_error=False)
    for event in done.filter_events(lambda event: event.is_step_failure):
        print(event.step_failure_data.user_failure_data.description)
    sys.exit(not done.success)
"""
DAMAGE = """
from derm_ml.shared import shared_place
place = shared_place()
for name in place.names("objects"):
    place.note(f"objects/{name}", b"noise")
"""
ASK = """
from derm_ml.cli.arguments import open_registry
from derm_ml.registry import get_task
task, registry = get_task("lesion_classification"), open_registry()
print(registry.standing(task).champion, [entry["event"] for entry in registry.history(task)])
print([check.message for check in registry.doctor(task) if not check.ok])
"""


@pytest.fixture(scope="module")
def server(postgres, objects) -> Iterator[str]:
    """An MLflow server before Postgres and the bucket; its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--serve-artifacts", "--backend-store-uri", database_url(f"{postgres}/server"),
        "--artifacts-destination", "s3://derm/server",
    ]  # fmt: skip
    with ended(command, env={**os.environ, **objects}) as process:
        while process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"


def test_the_pipeline_goes_on_from_machine_to_machine_by_settings_alone(postgres, objects, server, tmp_path):
    """One prepares, trains and measures; a second registers and promotes what it never had, then trains
    another; a third decides on that one. They share Postgres, an object store and an MLflow server."""
    settings = {
        DAGSTER_STORAGE: f"{postgres}/dagster", "MLFLOW_TRACKING_URI": server, SHARED: "s3://derm/shared", DVC_REMOTE: "s3://derm/dvc",
        "DERM_TRAINER": "subprocess", "DERM_SECRET": "one secret for all of these machines",
        "AWS_ENDPOINT_URL": objects["MLFLOW_S3_ENDPOINT_URL"], "OMP_NUM_THREADS": "1",
        **{name: value for name, value in objects.items() if name.startswith("AWS_")},
    }  # fmt: skip

    on = machines(tmp_path, settings)

    learns = {"epochs": 3, "batch_size": 8, "workers": 0, "views": "none", "ema": 0.0}
    on("first", WORK, json.dumps(learns), "dataset", "model", "evaluation")
    shutil.rmtree(tmp_path / "first")
    on("second", WORK, "", "registered_model", "promoted_model")
    on("second", WORK, json.dumps({**learns, "epochs": 1}), "model", "evaluation", "registered_model")
    shutil.rmtree(tmp_path / "second")
    assert "version 2 was refused" in on("third", WORK, "", "promoted_model", well=False)
    assert on("third", ASK).splitlines() == ["1 ['promoting', 'promoted', 'refused']", "[]"]
    kept = [path for path in tmp_path.rglob("*.db") if "dvc-site" not in path.parts and ".dvc" not in path.parts]
    assert kept == [], "something but DVC's caches was kept in sqlite"
    # whoever damages what lies in the bucket is noticed by the next machine
    on("third", DAMAGE)
    assert "is damaged: remove it there" in on("fourth", WORK, "", "registered_model", well=False)
    assert not list((tmp_path / "fourth").rglob("bundle.json"))


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
