"""Where Dagster keeps runs, events and schedules: sqlite in DAGSTER_HOME, or the database a setting names.

dagster.yaml names this class, so that one file serves a laptop and a cluster: `DERM_DAGSTER_STORAGE` decides when
Dagster starts.

Dagster writes that a run failed as an event first and as the run's status a moment later. The daemon that starts killed
runs again looks at each event once: one it saw in that moment, most likely just after a restart, when it begins
together with the monitoring, would be of a run that still "runs", and was never looked at again. So it is shown events
only once the status has followed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import dagster as dg
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from derm_ml import DermError
from derm_ml.addresses import database_url
from derm_ml.places import DAGSTER_HOME, DAGSTER_STORAGE, installation, read_settings, setting_path

_ENDS = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)
STATUS_FOLLOWS = 60.0  # seconds within which a status follows its event; one that was killed between them never does


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
            return shown_with_status(DagsterSqliteStorage.from_local(str(home), inst_data))
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
        return shown_with_status(DagsterPostgresStorage.from_config_value(inst_data, {"postgres_url": named}))


def shown_with_status(storage: DagsterStorage) -> DagsterStorage:
    """The storage, whose events of all runs stop before the first one whose run has ended and does not yet say so."""
    events, runs = storage.event_log_storage, storage.run_storage
    every = events.get_logs_for_all_runs_by_log_id  # which only the daemon for retries asks

    def get_logs_for_all_runs_by_log_id(*asked: Any, **named: Any) -> Mapping[int, dg.EventLogEntry]:
        found = every(*asked, **named)
        ended = {entry.run_id for entry in found.values() if (e := entry.dagster_event) and e.event_type in _ENDS}
        now, behind = time.time(), set[str]()
        if ended:
            asked_runs = runs.get_runs(dg.RunsFilter(run_ids=list(ended)))
            behind = {run.run_id for run in asked_runs if not run.is_finished}

        def followed(entry: dg.EventLogEntry) -> bool:
            return entry.run_id not in behind or now - entry.timestamp > STATUS_FOLLOWS

        return dict(takewhile(lambda item: followed(item[1]), found.items()))

    events.get_logs_for_all_runs_by_log_id = get_logs_for_all_runs_by_log_id
    return storage
