"""The model behind a service: verified before it answers, exchanged while requests run, asked by a few threads.

A request takes the model once (`ready`) and keeps it to its end, so an exchange meets no request half-way. The model
before is gone from memory when its last request has been answered.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from derm_ml.asking.prevalence import PrevalenceError
from derm_ml.bundles.bundle import BundleError, read_card, require_trusted
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.providers import PROVIDER, ProviderError
from derm_ml.contract import Predictor
from derm_ml.embeddings.similar import SimilarImages, SimilarImagesError
from derm_ml.neutral_ids import NeutralIds, known_ids
from derm_ml.task import Task
from serving import golden, sessions
from serving.guard import Limits
from serving.metrics import Metrics
from serving.prevalence import stated
from serving.queue import FairQueue
from serving.recorder import Recorder
from serving.request import because
from serving.shadow import Sent, Shadow

NO_INDEX = "this service was built without an index of similar images"
NO_MODEL = "no model has been released for this task yet; release one, then start the service again"
WITHDRAWN = "the model was withdrawn and no other has been released; release one"
THREADS = max(2, min(4, os.cpu_count() or 1))  # decoding one picture overlaps with predicting another
SOURCE = "source"  # what stands for the tag of a Bento where a bundle is served from disk
BUNDLE = "bundle"  # the folder inside a BentoML model that holds the three files
INDEX = "similar"  # the folder beside it that holds the index of similar images, if there is one

logger = logging.getLogger("bentoml.serving")

T = TypeVar("T")


class OtherTask(BundleError):
    """A model is one of another task; the message says of which."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a model lies: its bundle, its index (which need not exist), and, unless it is served from disk, its golden
    answers and how its sessions use the cores."""

    bundle: Path
    index: Path
    golden: Path | None = None
    sessions: Path | None = None

    @classmethod
    def stored(cls, folder: Path) -> Files:
        """The files of a model in the BentoML store."""
        return cls(folder / BUNDLE, folder / INDEX, folder / golden.GOLDEN, folder / sessions.SESSIONS)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verified model and what goes with it. `no_index` says in a sentence why `similar` is None.

    `ids`: with the secret of the index a caller may send plain patient ids.
    """

    predictor: Predictor
    similar: SimilarImages | None
    no_index: str
    bento: str
    ids: NeutralIds | None = None


def load_predictor(task: Task, files: Files) -> Predictor:
    """The verified predictor of a bundle, signed by a trusted key where such are set.

    Raises `BundleError`, `OtherTask`, `GoldenError` if it answers otherwise than built, or `PrevalenceError` if the
    prevalence that is set cannot be used with it.
    """
    if (of := read_card(files.bundle).task) != task.name:
        raise OtherTask(f"the model is one of {of}, not of {task.name}")
    require_trusted(files.bundle)
    predictor = task.load(files.bundle)
    stated(task, predictor.card)
    if files.sessions is not None:
        sessions.apply(predictor, files.sessions)
    if files.golden is not None:
        golden.verify(task, predictor, files.golden)
    return predictor


def queue_of(limits: Limits, metrics: Metrics) -> FairQueue:
    """The queue before the threads of a service."""
    return FairQueue(THREADS, limits.waiting, limits.waiting_seconds, lambda n: metrics.waiting.set(n))


class Engine:
    """One task and the model that answers for it, if there is one.

    `unready` says in a sentence why there is none, `refused` why the newest release is not the one that answers; both
    are empty if there is nothing to say. The engines of a suite share one `queue`.
    """

    def __init__(self, task: Task, limits: Limits, metrics: Metrics, queue: FairQueue | None = None) -> None:
        self.task = task
        self.metrics = metrics
        self.recorder = Recorder.from_environment(task, metrics)
        self.shadow = Shadow(task, metrics, self.recorder)
        self.unready, self.refused = NO_MODEL, ""
        self._current: Loaded | None = None
        self._bentos: WeakKeyDictionary[Predictor, str] = WeakKeyDictionary()
        self._stated: WeakKeyDictionary[Predictor, Mapping[str, str]] = WeakKeyDictionary()
        self._queue = queue or queue_of(limits, metrics)

    @property
    def predictor(self) -> Predictor | None:
        return self._current.predictor if self._current else None

    @property
    def similar(self) -> SimilarImages | None:
        return self._current.similar if self._current else None

    @property
    def ids(self) -> NeutralIds | None:
        return self._current.ids if self._current else None

    @property
    def bento(self) -> str:
        """The tag of the Bento whose model answers now."""
        return self._current.bento if self._current else SOURCE

    @property
    def idle(self) -> bool:
        return self._queue.idle

    def load(self, files: Files, bento: str) -> None:
        """Load, verify and serve a model. One that is damaged, or of another task, is not: `unready` says why.

        An index that is damaged or of another model is not loaded, the model is; then this raises, too.
        """
        try:
            predictor = load_predictor(self.task, files)
        except OtherTask as error:
            self.unready = str(error)
            raise
        except BundleError:
            self.unready = "the model's files are damaged, changed or not signed, so it is not loaded; see the log"
            raise
        except ProviderError:
            self.unready = f"the execution provider that {PROVIDER} names cannot be used here; see the server's log"
            raise
        except PrevalenceError as error:
            self.unready = str(error)
            raise
        except golden.GoldenError:
            self.unready = "the model does not give its golden answers, so it was not loaded; see the server's log"
            raise
        try:
            loaded = _with_index(files, predictor, bento)
        except SimilarImagesError:
            no_index = "the index of similar images is damaged or of another model, so it was not loaded"
            self.switch(Loaded(predictor, None, no_index, bento))
            raise
        self.switch(loaded)

    def open(self, files: Files, bento: str) -> Loaded:
        """A verified model, not yet serving. Raises `BundleError`, `GoldenError` or `SimilarImagesError`."""
        return _with_index(files, load_predictor(self.task, files), bento)

    def switch(self, loaded: Loaded) -> None:
        """Let `loaded` answer every request that takes its model from now on."""
        self._bentos[loaded.predictor] = loaded.bento
        self._stated[loaded.predictor] = stated(self.task, loaded.predictor.card)
        self._current, self.unready, self.refused = loaded, "", ""
        self.metrics.serves(loaded.predictor.bundle.version, loaded.bento)
        logger.info("model %s answers on %s", loaded.predictor.bundle.version, loaded.predictor.provider)

    def withdraw(self) -> None:
        """Let no request take the model any more; those that hold it are answered."""
        self._current, self.unready, self.refused = None, WITHDRAWN, ""
        self.metrics.serves_none()

    def let_go(self) -> None:
        """Free the memory of the model as soon as no request holds it; nothing is wrong with it."""
        self._current, self.unready, self.refused = None, "", ""
        self.metrics.serves_none()

    def ready(self) -> Predictor:
        """The predictor. Raises a 503 that says why there is none."""
        if self._current is None:
            because("no_model")
            raise HTTPException(503, self.unready)
        return self._current.predictor

    def searchable(self) -> tuple[Classifier, SimilarImages]:
        """The predictor and its index of similar images. Raises a 503 that says why there is none."""
        self.ready()
        now = self._current
        if now is None or now.similar is None or not isinstance(now.predictor, Classifier):
            because("no_index")
            raise HTTPException(503, now.no_index if now else NO_INDEX)
        return now.predictor, now.similar

    def bento_of(self, predictor: Predictor) -> str:
        """The Bento a predictor that answers, or did a moment ago, came from."""
        return self._bentos[predictor]

    def stated_of(self, predictor: Predictor) -> Mapping[str, str]:
        """The prevalence that setting or policy state for a predictor that answers, or did: see `prevalence.stated`."""
        return self._stated[predictor]

    def admit(self) -> None:
        """Raises a 429 if as many pictures wait as may. Asked before a body is read, and again when it is."""
        self._queue.admit()

    async def run(self, work: Callable[[], T], pixels: int = 0) -> T:
        """Run `work` in one of the model's threads when its turn has come: see `queue.FairQueue`.

        `pixels`: how many it decodes, see `cost.pixels`. Raises what `work` raises, a 429, or a 503.
        """
        return await self._queue.run(work, pixels)

    def ask_challenger(self, sent: Sequence[Sent]) -> BackgroundTask:
        """What a response does once it was sent: ask the challenger the same, if there is one and nobody waits."""
        return BackgroundTask(self.shadow.after, sent, self._queue)

    def answered(self, predictor: Predictor, said: Mapping[str, Any]) -> None:
        """Count an answer."""
        numbers = self.task.numbers(said)
        self.metrics.answered(numbers, predictor.bundle.version)
        if said["abstained"]:
            self.metrics.abstains(said["quality"], predictor.bundle.version)


def _with_index(files: Files, predictor: Predictor, bento: str) -> Loaded:
    """The predictor with its index, if there is one. Raises `SimilarImagesError` for one that cannot be used."""
    if not files.index.exists() or not isinstance(predictor, Classifier):  # only a classifier has an embedding
        return Loaded(predictor, None, NO_INDEX, bento)
    return Loaded(predictor, SimilarImages.open(files.index, predictor.bundle.version), "", bento, known_ids())
