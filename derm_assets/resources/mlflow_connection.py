"""Where the registry is, and the client that speaks with it: what runs and versions stand on."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import dagster as dg
from pydantic import PrivateAttr

from derm_assets.resources.mlflow_client import RegistryError, reachable_client
from derm_assets.resources.places import Places
from derm_ml.addresses import database_url
from derm_ml.machine import writing
from derm_ml.places import ARTIFACTS

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MlflowConnection(dg.ConfigurableResource):
    """MLflow by explicit run ids: no active run, no global state, so every Dagster step may be its own process."""

    places: Places
    tracking_uri: str = ""  # empty: sqlite below DERM_HOME
    artifacts: str = ""  # where files lie beside a database: `s3://bucket/folder`; empty: below DERM_HOME
    ui: str = "http://127.0.0.1:5000"  # where `mlflow ui` shows a local database
    _opened: Any = PrivateAttr(default=None)

    @classmethod
    def from_environment(cls) -> Self:
        """The registry the environment names."""
        uri = database_url(os.environ.get("MLFLOW_TRACKING_URI", "").strip())
        return cls(places=Places.from_environment(), tracking_uri=uri, artifacts=os.environ.get(ARTIFACTS, "").strip())

    @property
    def begun(self) -> bool:
        """Whether there is a registry to ask: a question makes no database of its own.

        Raises `RegistryError` where a file stands in place of one of its folders.
        """
        if self.tracking_uri:
            return True
        try:
            self._database.stat()
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            raise RegistryError(f"{self._database}: a part of this path is a file, not a folder") from None
        return True

    def reached(self) -> str:
        """Where the registry is, in a sentence. Raises `RegistryError` if it cannot be used; makes no database."""
        if not self.begun:
            return f"{self._where} is made by the first training or promotion"
        self.client.search_experiments(max_results=1)
        return f"{self._where} answers"

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the first touch of a fresh sqlite file runs its migrations (10 s and more)."""
        if self._opened is None:
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it fills a log with bars
            # a server that is down is said so after seconds, not after the four minutes of MLflow's own seven tries
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
            # it logs the traceback of what it raises as well
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            folder = self._database.parent
            with writing(folder, making=True):
                folder.mkdir(parents=True, exist_ok=True)
            self._opened = reachable_client(self.uri, self._where)
        return self._opened

    @property
    def _where(self) -> str:
        """The registry in words: its file or its address, without the password that may stand in it."""
        return re.sub(r"//[^/@]*@", "//", self.uri).removeprefix("sqlite:///")

    @property
    def uri(self) -> str:
        """The registry's address as MLflow takes it; a password may stand in it."""
        return self.tracking_uri or f"sqlite:///{self._database}"

    @property
    def is_server(self) -> bool:
        """Whether the registry is an MLflow server rather than a database this program opens itself."""
        return self.uri.startswith("http")

    @property
    def _database(self) -> Path:
        """Where MLflow's own database lies, if no other one is named."""
        return self.places.here.registry.resolve() / "mlflow.db"

    @property
    def _ui(self) -> str:
        return self.uri.rstrip("/") if self.is_server else self.ui
