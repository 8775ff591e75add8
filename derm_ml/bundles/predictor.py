"""One Predictor runs every prediction: evaluation, heatmaps, embeddings, the command line, serving.

It reads a Bundle, runs its graph in ONNX Runtime and returns arrays. Because nothing else predicts,
what was evaluated is what is served. No torch is needed here.

Example:
    >>> predictor = Predictor(Path("out/lesion_classification/strong/bundle"))   # doctest: +SKIP
    >>> predictor([image]).probabilities                                         # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors  # pyright: ignore[reportMissingImports]  compiled

from derm_ml.bundles.bundle import Bundle, BundleCard, BundleError
from derm_ml.images.condition import in_picture, square
from derm_ml.images.masks import cleaned
from derm_ml.images.preprocess import Fit, in_frame, without_padding

# what ONNX Runtime raises for a graph it cannot load or run; they share no base but Exception
_GRAPH_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
Attributes = Mapping[str, str | float]
TOGETHER = 16  # squares in one run of the graph: more only takes memory, fewer leave cores idle between runs


@dataclass(frozen=True, slots=True)
class Sessions:
    """How ONNX Runtime uses the cores. Which is fastest depends on network and machine: `serving/sessions.py` measures.

    `spinning`: its threads wait for work by trying again and again, which is faster alone and slower beside others.
    `apart`: a call that meets another one under way runs on one core only, so that two calls do not share every core.
    """

    spinning: bool = True
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the graph says of N images, L labels.

    logits (N, L) float32, averaged over the views, before calibration;
    probabilities (N, L) float32 in 0..1, calibrated;
    embedding (N, D) float32, the layer before the head;
    maps (N, L, h, w) float32: Grad-CAM of every label, ≥ 0, not normalised.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    embedding: np.ndarray
    maps: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a segmenter says of one picture of height H and width W.

    mask (H, W) uint8 of 0 and 255, in the frame of the picture, cleaned as the bundle's mask rule says;
    square (S, S) float32 in 0..1, the probability of each pixel of the square the network saw, not cleaned;
    confidence in 0..1: the Dice of the mask, if each pixel were lesion with just the probability it was given.
    """

    mask: np.ndarray
    square: np.ndarray
    confidence: float
    fit: Fit

    @property
    def probability(self) -> np.ndarray:
        """(H, W) float32 in 0..1, in the frame of the picture, not cleaned; 0 where a crop saw nothing."""
        height, width = self.mask.shape
        return in_frame(self.square, height, width, self.fit)


class Predictor:
    """Predictions of one bundle. Thread-safe: ONNX Runtime sessions are, and nothing here changes but a count.

    Raises `BundleError` if the bundle is damaged or answers a blank picture with something not finite.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.bundle = Bundle.open(path)
        self.card = self.bundle.card
        self._single: ort.InferenceSession | None = None
        self._under_way = 0
        self._counting = Lock()
        side = self.card.preprocessing.side
        try:
            self._session = self._opened(threads, Sessions())
            warm_up = self.logits([np.full((side, side, 3), 127, np.uint8)])
        except _GRAPH_ERRORS as error:
            raise BundleError(f"{self.bundle.model}: the graph cannot be run: {error}") from error
        expected = (1, len(self.card.labels), *((side, side) if self.card.head == "mask" else ()))
        if warm_up.shape != expected or not np.isfinite(warm_up).all():
            raise BundleError(
                f"{path}: the model answers a blank picture with {warm_up.shape} numbers from {warm_up.min()} to "
                f"{warm_up.max()}, expected {expected} finite ones"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return self.card.labels

    def use(self, sessions: Sessions) -> None:
        """Use the cores in this way from now on. Not while it predicts."""
        self._session = self._opened(0, sessions)
        self._single = self._opened(1, sessions) if sessions.apart else None

    def __call__(self, images: Sequence[np.ndarray], attributes: Sequence[Attributes] | None = None) -> Outputs:
        """Predict RGB images, each (H, W, 3) uint8 of any size, with optional attributes (`age`, `sex`) for each.

        Raises `ValueError` for a segmenter, which is asked by `segment`.
        """
        if self.card.head == "mask":
            raise ValueError(f"the bundle of {self.card.task} draws masks: ask `segment`")
        squares = np.stack([self.square(image) for image in images])
        views = self._views(squares, attributes)
        logits, embedding = (np.stack([v[k] for v in views]).mean(axis=0) for k in (0, 1))
        undone = [undo(v[2].transpose(0, 2, 3, 1)) for (_, undo), v in zip(VIEWS[self.card.views], views, strict=True)]
        maps = np.stack(undone).mean(axis=0).transpose(0, 3, 1, 2)
        return Outputs(logits, self.calibrated(logits), embedding, maps)

    def with_fellows(self, outputs: Outputs, fellows: np.ndarray) -> Outputs:
        """The same outputs (N), each logit averaged with that of the person's other eye as the bundle says.

        `fellows` (N,) int: the place of the other eye's photo among the outputs, -1 where there is none.
        """
        if not self.card.fellow:
            return outputs
        known = fellows >= 0
        logits = outputs.logits.copy()
        logits[known] += np.array(self.card.fellow, np.float32) * (outputs.logits[fellows[known]] - logits[known])
        return replace(outputs, logits=logits, probabilities=self.calibrated(logits))

    def square(self, image: np.ndarray) -> np.ndarray:
        """The square (side, side, 3) uint8 the network sees of an RGB picture of any size."""
        return square(image, self.card.preprocessing)

    def unsquared(self, cam: np.ndarray, image: np.ndarray) -> np.ndarray:
        """A map (h, w) over that square in the frame of the whole picture, which is RGB of any size."""
        return in_picture(cam, image, self.card.preprocessing)

    def segment(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Segmentation]:
        """Draw the masks of RGB images, each (H, W, 3) uint8 of any size.

        `sizes` are the (height, width) of the frames the masks are wanted in, where they are not the images' own:
        a dataset stores pictures shrunk and measures masks at the original size.
        Any code that holds a bundle of a segmenter may ask, another task's too: to hide a lesion, or to see how much
        of a heatmap lies inside it. Raises `ValueError` for a classifier.
        """
        if self.card.head != "mask":
            raise ValueError(f"the bundle of {self.card.task} draws no masks")
        frames = sizes or [image.shape[:2] for image in images]
        squares = self.calibrated(self.logits(images))[:, 0]
        return [self._framed(square, *frame) for square, frame in zip(squares, frames, strict=True)]

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Logits averaged over the views: (N, L), or (N, L, S, S) of a segmenter with the views undone."""
        squares = np.stack([self.square(image) for image in images])
        found = []
        for (logits, *_), (_, undo) in zip(self._views(squares, None), VIEWS[self.card.views], strict=True):
            found.append(logits if logits.ndim == 2 else undo(logits.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))
        return np.mean(found, axis=0)

    def _framed(self, square: np.ndarray, height: int, width: int) -> Segmentation:
        rule, fit = self.card.mask_rule, self.card.preprocessing.fit
        square = without_padding(square, height, width, fit)
        kept = cleaned(square, rule)
        inside = kept >= rule.threshold
        # in 255 steps: the map of a 40-megapixel photo in float would take 160 MB a request
        fine = in_frame(np.round(kept * 255).astype(np.uint8), height, width, fit)
        mask = np.where(fine >= rule.threshold * 255, np.uint8(255), np.uint8(0))
        expected = 2 * square[inside].sum() / (inside.sum() + square.sum()) if inside.any() else 1 - square.max()
        return Segmentation(mask, square, float(expected), fit)

    def batches(
        self,
        images: Iterable[tuple[np.ndarray, Attributes]],
        size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Outputs]:
        """Predict any number of images in batches; `progress` is told how many were done. Memory stays bounded."""
        batch: list[tuple[np.ndarray, Attributes]] = []
        for item in images:
            batch.append(item)
            if len(batch) == size:
                yield self([image for image, _ in batch], [a for _, a in batch])
                if progress:
                    progress(len(batch))
                batch = []
        if batch:
            yield self([image for image, _ in batch], [a for _, a in batch])
            if progress:
                progress(len(batch))

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Logits (N, L) → probabilities (N, L), calibrated as the bundle says (softmax or sigmoid, as its head is).

        Those of a mask (N, L, S, S) are independent sigmoids.
        """
        return calibrated(self.card, logits)

    def _views(self, squares: np.ndarray, attributes: Sequence[Attributes] | None) -> list[list[np.ndarray]]:
        """The outputs of the graph for each view of the squares (N, S, S, 3), all in one run where they are few."""
        seen = [np.ascontiguousarray(do(squares)) for do, _ in VIEWS[self.card.views]]
        n = len(squares)
        if n * len(seen) > TOGETHER:
            return [self._run(view, attributes) for view in seen]
        outputs = self._run(np.concatenate(seen), list(attributes) * len(seen) if attributes else None)
        return [[output[n * k : n * (k + 1)] for output in outputs] for k in range(len(seen))]

    def _run(self, squares: np.ndarray, attributes: Sequence[Attributes] | None) -> list[np.ndarray]:
        feed = {"image": squares}
        if self.card.attributes:
            feed["attributes"] = encode_attributes(attributes or [{}] * len(squares), self.card.attributes)
        outputs = ["logits"] if self.card.head == "mask" else ["logits", "embedding", "maps"]
        with self._counting:
            session = self._single if self._single and self._under_way else self._session
            self._under_way += 1
        try:
            return [np.asarray(found) for found in session.run(outputs, feed)]
        finally:
            with self._counting:
                self._under_way -= 1

    def _opened(self, threads: int, sessions: Sessions) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(sessions.spinning)))
        return ort.InferenceSession(str(self.bundle.model), sess_options=options, providers=["CPUExecutionProvider"])


def calibrated(card: BundleCard, logits: np.ndarray) -> np.ndarray:
    """Logits (N, L) → probabilities (N, L) float32 as the card says; those of a mask (N, L, S, S)."""
    temperature = card.temperatures or card.temperature
    scaled = logits.astype(np.float64) / temperature + (card.bias or 0.0)
    if card.head == "softmax":
        scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return (0.5 * (1 + np.tanh(scaled / 2))).astype(np.float32)  # the sigmoid without overflow


def encode_attributes(attributes: Sequence[Attributes], names: Sequence[str]) -> np.ndarray:
    """Attributes as (N, 2 · len(names)) float32: a value and a flag that is 1 where the value is missing.

    Age is in units of 20 years from 50 (about a standard deviation from the mean of lesion archives); sex is 1 male,
    -1 female. A missing value is 0 with its flag set.
    """
    rows = np.zeros((len(attributes), 2 * len(names)), np.float32)
    for row, given in zip(rows, attributes, strict=True):
        for column, name in enumerate(names):
            value = _number(name, given.get(name))
            row[2 * column], row[2 * column + 1] = (0.0, 1.0) if value is None else (value, 0.0)
    return rows


def _number(name: str, value: str | float | None) -> float | None:
    if name == "sex":
        return {"male": 1.0, "female": -1.0}.get(str(value).lower())
    if value is None or value == "" or not np.isfinite(float(value)):
        return None
    return (float(value) - 50) / 20


def concatenate(outputs: Iterable[Outputs]) -> Outputs:
    """Outputs of batches as one. Raises `ValueError` if there are none."""
    parts = list(outputs)
    if not parts:
        raise ValueError("there is no image to predict")
    return Outputs(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Outputs)))


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2)


def _view(flip_rows: bool, flip_columns: bool, transpose: bool) -> tuple[Callable, Callable]:
    """One element of D4 on arrays (N, H, W, C), and its inverse."""
    axes = tuple(axis for axis, flip in ((1, flip_rows), (2, flip_columns)) if flip)

    def do(x: np.ndarray) -> np.ndarray:
        flipped = np.flip(x, axes) if axes else x
        return _transposed(flipped) if transpose else flipped

    def undo(x: np.ndarray) -> np.ndarray:
        back = _transposed(x) if transpose else x
        return np.flip(back, axes) if axes else back

    return do, undo


VIEWS: dict[str, list[tuple[Callable, Callable]]] = {
    "none": [_view(False, False, False)],
    "flips": [_view(r, c, False) for r in (False, True) for c in (False, True)],
    "d4": [_view(r, c, t) for t in (False, True) for r in (False, True) for c in (False, True)],
}
