"""The input gate of a bundle: is the model fit to answer about this image, or does it abstain?

    gate = gate_of(bundle)                      None where the bundle has none
    gate.judge(statistics, embeddings)          a `Fitness` for each image

An image is refused for its quality (too small, dark, blank, blurred, mostly frame: each number by itself), or because
it is unlike the images the model was trained on. Unlikeness is a Mahalanobis distance in three spaces, the network's
embedding at unit length and as it is, and the image statistics, each with a covariance of few axes and one variance for
all the others; their logarithms, in units of the validation images' own spread, are added. docs/results.md compares it
with other detectors. training/input_gate.py fits it.

input_gate.npz holds arrays and, as JSON, what they were fitted on. Nothing in it is unpickled.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from derm_ml import formats
from derm_ml.asking.answers import Fitness, Quality
from derm_ml.bundles.bundle import GATE, Bundle, BundleError
from derm_ml.images.statistics import BORDER, BRIGHTEST, NAMED, PLAINNESS, SHARPNESS, SHORTER_SIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

INSIDE = 0.5  # of the score: where the threshold lies, whatever model
GATE_BYTES = 64 * 2**20  # unpacked; 64 axes of an embedding of 4096 numbers take 1 MB
_ABOUT = "about"
_TINY = 1e-12  # of a distance: its logarithm stays finite
# in the order they are named, the first that applies: number, is low bad, name, sentence
_QUALITY: tuple[tuple[int, bool, Quality, str], ...] = (
    (SHORTER_SIDE, True, "too_small", "the image has too few pixels: send a larger one"),
    (BRIGHTEST, True, "dark", "the image is too dark"),
    (PLAINNESS, True, "blank", "the image is blank: there is nothing to see in it"),
    (SHARPNESS, True, "blurred", "the image is blurred"),
    (BORDER, False, "frame", "most of the image is a black or white frame"),
)
_UNLIKE = "the image is unlike those the model was trained on"


@dataclass(frozen=True, eq=False)
class Distance:
    """How far vectors (N, D) lie from those of the training images.

    centre, scale (D,); axes (K, D), orthonormal, with variance (K,) along each; `rest` is the variance along every
    other direction; middle and spread are those of the logarithm of the validation images' distances.
    """

    centre: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    variance: np.ndarray
    rest: float
    middle: float
    spread: float

    def log_distance(self, vectors: np.ndarray) -> np.ndarray:
        """(N,): logarithm of the squared Mahalanobis distance."""
        away = (vectors.astype(np.float64) - self.centre) / self.scale
        along = away @ self.axes.T
        beside = np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return np.log((along**2 / self.variance).sum(axis=1) + beside / self.rest + _TINY)

    def strangeness(self, vectors: np.ndarray) -> np.ndarray:
        """(N,): 0 for the validation image in the middle, 1 for about one in six."""
        return (self.log_distance(vectors) - self.middle) / self.spread


@dataclass(frozen=True, eq=False)
class InputGate:
    """One bundle's gate. `limits` (5,) of the named statistics; `threshold` of the summed strangeness.

    `embedding` is of the embedding at unit length, `activation` of the embedding as it is; both are None for a model
    whose graph gives no embedding, and then the statistics alone decide, and `activation` in gates of before. `about`
    says on how many images it was fitted, and how many of the validation images it refuses.
    """

    limits: np.ndarray
    threshold: float
    statistics: Distance
    embedding: Distance | None
    activation: Distance | None
    about: dict[str, Any]

    def judge(self, statistics: np.ndarray, embeddings: np.ndarray | None = None) -> list[Fitness]:
        """For each of N images whether the model is fit to answer. statistics (N, S), embeddings (N, D)."""
        scores = 1 / (1 + np.exp(np.clip(self.strangeness(statistics, embeddings) - self.threshold, -500, 500)))
        return [self._fitness(numbers, float(score)) for numbers, score in zip(statistics, scores, strict=True)]

    def strangeness(self, statistics: np.ndarray, embeddings: np.ndarray | None = None) -> np.ndarray:
        """(N,): how unlike the training images, in spreads of the validation images, summed over all spaces."""
        found = self.statistics.strangeness(statistics[:, NAMED:])
        if self.embedding is None:
            return found
        if embeddings is None:
            raise ValueError("this input gate judges embeddings too")
        found = found + self.embedding.strangeness(unit_length(embeddings))
        return found if self.activation is None else found + self.activation.strangeness(embeddings)

    def _fitness(self, numbers: np.ndarray, score: float) -> Fitness:
        quality, why = next(self._problems(numbers), ("sufficient", ""))
        why = why or (_UNLIKE if score < INSIDE else "")
        return Fitness(quality=quality, in_distribution=score, abstained=bool(why), abstained_because=why)

    def _problems(self, numbers: np.ndarray) -> Iterator[tuple[Quality, str]]:
        for (place, low_is_bad, name, sentence), limit in zip(_QUALITY, self.limits, strict=True):
            if numbers[place] < limit if low_is_bad else numbers[place] > limit:
                yield name, sentence

    def write(self, folder: Path) -> None:
        """Write input_gate.npz into the folder of a bundle that is not sealed yet: the same bytes for the same gate."""
        about = json.dumps(formats.INPUT_GATE.stamped(self.about), sort_keys=True).encode()
        arrays = {
            "limits": self.limits,
            "threshold": np.float64(self.threshold),
            _ABOUT: np.frombuffer(about, np.uint8),
        }
        for name in ("statistics", "embedding", "activation"):
            if (likeness := getattr(self, name)) is not None:
                arrays |= {f"{name}.{f.name}": getattr(likeness, f.name) for f in fields(Distance)}
        np.savez(folder / GATE, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The gate in a file. Raises `BundleError` for one that cannot be read."""
        try:
            with zipfile.ZipFile(path) as packed:
                if (size := sum(info.file_size for info in packed.infolist())) > GATE_BYTES:
                    raise BundleError(f"{path}: {size:,} bytes unpacked, more than {GATE_BYTES:,}")
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = json.loads(arrays[_ABOUT].tobytes())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path}: not a readable input gate: {error}") from error
        about = formats.INPUT_GATE.read(about, path, BundleError)
        try:
            embedding, activation = (
                _likeness(arrays, name) if f"{name}.centre" in arrays else None for name in ("embedding", "activation")
            )
            statistics = _likeness(arrays, "statistics")
            gate = cls(arrays["limits"], float(arrays["threshold"]), statistics, embedding, activation, about)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path}: not a whole input gate: {error}") from error
        if gate.limits.shape != (len(_QUALITY),) or not np.isfinite(gate.threshold):
            raise BundleError(f"{path}: not a whole input gate: {len(_QUALITY)} limits and a threshold are needed")
        return gate


def gate_of(bundle: Bundle) -> InputGate | None:
    """The gate of a verified bundle, None where it has none. Raises `BundleError` for one that cannot be read."""
    return InputGate.read(bundle.path / GATE) if bundle.card.has_gate else None


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, D) float64 of length 1: how strongly a network answers says little of what it sees."""
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)


def _likeness(arrays: dict[str, np.ndarray], name: str) -> Distance:
    centre, scale, axes, variance, *numbers = (arrays[f"{name}.{f.name}"] for f in fields(Distance))
    rest, middle, spread = map(float, numbers)
    found = Distance(centre, scale, axes, variance, rest, middle, spread)
    wide = found.centre.shape
    shapes = [found.scale.shape, found.axes.shape, found.variance.shape]
    if len(wide) != 1 or shapes != [wide, (len(found.axes), *wide), (len(found.axes),)]:
        raise ValueError(f"the shapes of {name} do not fit each other")
    return found
