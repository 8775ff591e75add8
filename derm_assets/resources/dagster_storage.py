"""Where Dagster keeps runs, events and schedules: sqlite in DAGSTER_HOME, or the database a setting names.

dagster.yaml names this class, so that one file serves a laptop and a cluster: `DERM_DAGSTER_STORAGE` decides when
Dagster starts.
"""

from __future__ import annotations

import os
from typing import Any

from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from derm_ml import DermError
from derm_ml.addresses import database_url
from derm_ml.places import DAGSTER_HOME, DAGSTER_STORAGE, installation, read_settings, setting_path


class StorageError(DermError, RuntimeError):
    """The database for Dagster's storage cannot be used from here."""


class StorageOfSettings(DagsterStorage):
    """Never made itself: Dagster gets its own storage for sqlite or Postgres in its place."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> DagsterStorage:
        """Raises `StorageError` for a setting that names no Postgres, or where its driver is not installed."""
        read_settings()
        url = os.environ.get(DAGSTER_STORAGE, "").strip()
        if not url:
            home = setting_path(DAGSTER_HOME) or installation().dagster
            return DagsterSqliteStorage.from_local(str(home), inst_data)
        if not (named := database_url(url)).startswith("postgresql+psycopg2://"):
            scheme = url.partition(":")[0][:20]
            raise StorageError(
                f"{DAGSTER_STORAGE} begins with '{scheme}': write postgresql://USER:PASSWORD@HOST/DATABASE, or leave "
                "it empty for sqlite"
            )
        try:
            from dagster_postgres import DagsterPostgresStorage  # pyright: ignore[reportMissingImports]  # an extra
        except ImportError as error:
            raise StorageError(
                f"{DAGSTER_STORAGE} names a Postgres database, but {error.name or 'its driver'} is not installed: "
                "pip install 'derm-platform[postgres]'"
            ) from None
        return DagsterPostgresStorage.from_config_value(inst_data, {"postgres_url": named})
