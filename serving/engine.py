"""The model behind a service: loaded once, verified, asked by a few threads with a bounded queue."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException

from derm_ml.bundle import BundleError, require_trusted
from derm_ml.embeddings.similar import SimilarImages, SimilarImagesError
from derm_ml.neutral_ids import NeutralIds, known_ids
from derm_ml.predictor import Predictor
from derm_ml.task import Task

NO_INDEX = "this service was built without an index of similar images"
NO_MODEL = "no model has been released for this task yet; release one, then start the service again"
THREADS = max(2, min(4, os.cpu_count() or 1))  # decoding one picture overlaps with predicting another

T = TypeVar("T")


class Engine:
    """One task and its predictor, if there is one, and its index of similar images, if there is one.

    `unready` says in a sentence why there is no predictor, `no_index` why there is no index; empty if there is one.
    """

    def __init__(self, task: Task, waiting: int) -> None:
        self.task = task
        self.predictor: Predictor | None = None
        self.similar: SimilarImages | None = None
        self.ids: NeutralIds | None = None  # with the secret of the index a caller may send plain patient ids
        self.bento = "source"  # the tag of the Bento this runs from, once it is known
        self.unready, self.no_index = NO_MODEL, NO_INDEX
        self._waiting = waiting
        self._admitted = 0
        self._threads: anyio.CapacityLimiter | None = None

    def load(self, bundle: Path, index: Path) -> None:
        """Load and verify a bundle. One that is damaged, or of another task, is not loaded: `unready` says why.

        The folder `index` need not exist; one that is damaged or of another model is not loaded, the model is.
        """
        try:
            require_trusted(bundle)
            predictor = self.task.load(bundle)
        except BundleError:
            self.unready = "the model's files are damaged, changed or not signed, so it is not loaded; see the log"
            raise
        if predictor.card.task != self.task.name:
            self.unready = f"the model is one of {predictor.card.task}, not of {self.task.name}"
            raise BundleError(f"{bundle}: {self.unready}")
        self.predictor, self.unready = predictor, ""
        if index.exists():
            self.ids = known_ids()
            try:
                self.similar, self.no_index = SimilarImages.open(index, predictor.bundle.version), ""
            except SimilarImagesError:
                self.no_index = "the index of similar images is damaged or of another model, so it was not loaded"
                raise

    def ready(self) -> Predictor:
        """The predictor. Raises a 503 that says why there is none."""
        if self.predictor is None:
            raise HTTPException(503, self.unready)
        return self.predictor

    def searchable(self) -> SimilarImages:
        """The index of similar images. Raises a 503 that says why there is none."""
        if self.similar is None:
            raise HTTPException(503, self.no_index)
        return self.similar

    def admit(self) -> None:
        """Raises a 429 if as many pictures wait as may. Asked before a body is read, and again when it is."""
        if self._admitted >= self._waiting + THREADS:
            raise HTTPException(429, "too many pictures are waiting; try again in a moment", {"Retry-After": "1"})

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the model's threads, waiting for a free one. Raises what `work` raises, or a 429."""
        self.admit()
        if self._threads is None:  # needs the running event loop
            self._threads = anyio.CapacityLimiter(THREADS)
        self._admitted += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._admitted -= 1
