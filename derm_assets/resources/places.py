"""The folders of derm_ml/places.py as a Dagster resource, which the UI shows; what lies where below them, it knows."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from derm_ml.places import Installation, installation
from derm_ml.task import Task


class Places(dg.ConfigurableResource):
    """The folders of this installation; absolute, whatever the working directory is."""

    data: str
    out: str
    home: str

    @classmethod
    def from_environment(cls) -> Places:
        """The folders that the environment and `.env` name."""
        here = installation()
        return cls(data=str(here.data), out=str(here.out), home=str(here.home))

    @property
    def here(self) -> Installation:
        return Installation(Path(self.data), Path(self.out), Path(self.home))

    def incoming(self, task: Task) -> Path:
        return self.here.incoming(task.name)

    def raw(self, task: Task) -> Path:
        return self.here.raw(task.name)

    def withdrawn(self, task: Task) -> Path:
        return self.here.withdrawn(task.name)

    def prepared(self, task: Task) -> Path:
        return self.here.prepared(task.name)

    def version(self, task: Task, md5: str) -> Path:
        return self.here.version(task.name, md5)

    def models(self, task: Task) -> Path:
        return self.here.models(task.name)

    def ledger(self, task: Task) -> Path:
        return self.here.ledger(task.name)
