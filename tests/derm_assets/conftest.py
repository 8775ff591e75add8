"""A place of its own for every test; the MLflow database is migrated once and copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from derm_assets.assets import line
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.promotions import Promotions
from derm_assets.resources.trainer import Trainer
from derm_ml.registry import get_task

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
