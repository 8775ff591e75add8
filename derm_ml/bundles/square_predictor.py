"""What the predictors of one image share: a verified bundle, its session, and the square its network sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import islice
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import numpy as np

from derm_ml.asking.answers import Fitness
from derm_ml.bundles.bundle import Bundle, BundleCard, BundleError
from derm_ml.bundles.input_gate import gate_of
from derm_ml.bundles.session import Cores, Session, graph_errors
from derm_ml.images.condition import square
from derm_ml.images.statistics import statistics

T = TypeVar("T")
_KINDS = {
    "softmax": "a classifier",
    "sigmoid": "a classifier",
    "mask": "a segmenter",
    "pairs": "a model that matches pairs",
    "reconstruction": "an autoencoder",
}


class SquarePredictor(ABC):
    """Predictions of one bundle. Thread-safe: nothing here changes.

    Raises `BundleError` if the bundle is damaged, is one of another kind, or answers a blank image with something not
    finite; `ProviderError` for an execution provider that is not there.
    """

    heads: ClassVar[tuple[str, ...]]  # of the bundles it can open

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.bundle = Bundle.open(path)
        if self.card.head not in self.heads:
            raise BundleError(f"{path} is {_KINDS[self.card.head]}, not {_KINDS[self.heads[0]]}: choose another model")
        self._session = Session(self.bundle.model, threads)
        self.gate = gate_of(self.bundle)
        with graph_errors(self.bundle.model):
            self.warm_up()

    @property
    def card(self) -> BundleCard:
        return self.bundle.card

    @property
    def labels(self) -> tuple[str, ...]:
        return self.card.labels

    @property
    def provider(self) -> str:
        """Where its graph runs: `cpu`, `cuda`, …"""
        return self._session.provider

    def use(self, cores: Cores) -> None:
        """Use the cores in this way from now on. Not while it predicts."""
        self._session.use(cores)

    def with_graph(self, path: Path) -> Self:
        """The same predictor with the graph at `path` in place of its own, which must take and give the same.

        Whoever asks what an explanation owes to the weights changes them. Raises `BundleError` for no such graph.
        """
        other = copy(self)
        other._session = Session(path)
        return other

    def square(self, image: np.ndarray) -> np.ndarray:
        """The square (side, side, 3) uint8 the network sees of an RGB image of any size."""
        return square(image, self.card.preprocessing)

    def squares(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The squares (N, side, side, 3) uint8 of RGB images of any size."""
        return np.stack([self.square(image) for image in images])

    def statistics(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(N, S) float32: what RGB images of any size look like, at the size a dataset stores them."""
        return np.stack([statistics(image, self.card.preprocessing.store_side) for image in images])

    def judged(self, statistics: np.ndarray, embeddings: np.ndarray | None = None) -> list[Fitness]:
        """Whether the model is fit to answer about images of these statistics (N, S) and embeddings (N, D)."""
        return self.gate.judge(statistics, embeddings) if self.gate else [Fitness() for _ in statistics]

    def warm_up(self) -> None:
        """Answer a blank image. Raises `BundleError` for an answer of another shape, or one that is not finite."""
        side = self.card.preprocessing.side
        found, expected = self._numbers([np.full((side, side, 3), 127, np.uint8)]), (1, *self._shape)
        if found.shape != expected or not np.isfinite(found).all():
            raise BundleError(
                f"{self.bundle.path}: the model answers a blank image with {found.shape} numbers from {found.min()} to "
                f"{found.max()}, expected {expected} finite ones"
            )

    @property
    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """The shape of what the graph says of one image."""

    @abstractmethod
    def _numbers(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(N, *_shape): what the graph says of the images."""


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch
