"""The folders of derm_ml/places.py as a Dagster resource, and what lies where below them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from derm_ml.places import folder
from derm_ml.task import Task


class Places(dg.ConfigurableResource):
    """The folders of this installation; absolute, whatever the working directory is."""

    data: str
    out: str
    home: str

    @classmethod
    def from_environment(cls) -> Places:
        """`DERM_DATA`, `DERM_OUT` and `DERM_HOME`; a relative one is taken from the project's root."""
        return cls(data=str(folder("data")), out=str(folder("out")), home=str(folder("home")))

    def incoming(self, task: Task) -> Path:
        """Where batches are delivered: one folder a batch."""
        return Path(self.data) / "incoming" / task.name

    def raw(self, task: Task) -> Path:
        return Path(self.data) / "raw" / task.name

    def prepared(self, task: Task) -> Path:
        """The dataset as it is now."""
        return Path(self.data) / "prepared" / task.name

    def version(self, task: Task, md5: str) -> Path:
        """A prepared dataset that never changes: the dataset of that md5."""
        return Path(self.data) / "versions" / task.name / md5.removesuffix(".dir")

    def intake(self, task: Task, batch: str) -> Path:
        """What became of a batch: its list of left-out files."""
        return Path(self.out) / task.name / "incoming" / batch

    def withdrawn(self, task: Task) -> Path:
        """Where deliveries lie that were taken out of the raw folder again."""
        return Path(self.data) / "withdrawn" / task.name

    def ledger(self, task: Task) -> Path:
        return Path(self.home) / "ledger" / f"{task.name}.jsonl"
