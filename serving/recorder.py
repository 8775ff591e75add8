"""Records of what a service answers, where its operator asks for them: a setting names the folder, empty is off.

Off by default: a hash of an image and an embedding are not anonymous, so whoever keeps them must have decided to. What
cannot be recorded is counted and said in the log, once a minute; the answer is sent all the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import anyio.to_thread
import numpy as np

from derm_ml import DermError
from derm_ml.answered.journal import DAYS, SERVED, Answered, Journal
from derm_ml.bundles.seen import embeddings_seen
from derm_ml.places import RECORDS, setting_path
from derm_ml.task import Task
from serving.metrics import Metrics

KEPT = "DERM_RECORDS_DAYS"
QUIET = 60.0  # seconds between two warnings about the same full disk

logger = logging.getLogger("bentoml.serving")

T = TypeVar("T")


class RecorderError(DermError, ValueError):
    """The settings of the records cannot be used."""


class Recorder:
    """Appends a record for each answer of one task; without a journal it does nothing."""

    def __init__(self, task: Task, metrics: Metrics, journal: Journal | None = None) -> None:
        self.task = task
        self.metrics = metrics
        self.journal = journal
        self._warned = -QUIET

    @classmethod
    def from_environment(cls, task: Task, metrics: Metrics) -> Self:
        """As the environment says. Raises `RecorderError` for a number of days that is none."""
        folder = setting_path(RECORDS)
        return cls(task, metrics, Journal(folder / task.name, days_kept()) if folder else None)

    def watched(self, work: Callable[[], T]) -> Callable[[], tuple[T, list[np.ndarray]]]:
        """`work`, which also gives the embeddings its networks computed; none where nothing is recorded."""

        def run() -> tuple[T, list[np.ndarray]]:
            if self.journal is None:
                return work(), []
            with embeddings_seen() as seen:
                return work(), seen

        return run

    async def record(
        self,
        said: Mapping[str, Any],
        signed: Mapping[str, str],
        images: Sequence[bytes],
        embedding: np.ndarray | None,
        role: str = SERVED,
    ) -> None:
        """Append the record of one answer before it is sent: a client that has an answer finds its record. `role`:
        whether it is sent, or that of a challenger."""
        if self.journal is None:
            return
        journal, decision = self.journal, said.get("decision")
        record = Answered(
            prediction_id=signed["prediction_id"],
            task=self.task.name,
            model_version=signed["model_version"],
            dataset_md5=signed["dataset_md5"],
            bento=signed["bento"],
            images=tuple(hashlib.sha256(image).hexdigest() for image in images),
            scores={name: float(number) for name, number in self.task.numbers(said).items()},
            point=str(decision.get("point", "")) if isinstance(decision, Mapping) else "",
            predicted=str(said.get("predicted") or ""),
            embedding=embedding,
            role=role,
        )
        try:
            await anyio.to_thread.run_sync(journal.append, record)
        except OSError as error:
            self.metrics.recorded.labels("failed").inc()
            if time.monotonic() - self._warned > QUIET:
                self._warned = time.monotonic()
                logger.warning("predictions are answered and not recorded: %s: %s", journal.folder, error.strerror)
            return
        self.metrics.recorded.labels("written").inc()


def days_kept() -> int:
    """For how many days records are kept; 0: for ever. Raises `RecorderError`."""
    given = os.environ.get(KEPT, "").strip() or str(DAYS)
    if not given.isdecimal() or len(given) > 5:
        raise RecorderError(f"{KEPT} is '{given[:20]}'; write whole days, such as 90, or 0 to keep records for ever")
    return int(given)
