"""A trained autoencoder as a user meets it: pictures → codes and reconstructions, in ONNX Runtime.

model = AutoencoderPredictor(Path("out/lesion_classification/strong_autoencoder-…/bundle"))
model([image]).embedding, model([image]).reconstruction
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime as ort

from derm_ml.bundles.bundle import Bundle, BundleError
from derm_ml.bundles.predictor import Attributes
from derm_ml.images.preprocess import limit_side, to_square


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """Of N pictures: `square` and `reconstruction` (N, S, S, 3) uint8, `embedding` (N, D) float32, the code."""

    square: np.ndarray
    reconstruction: np.ndarray
    embedding: np.ndarray


class AutoencoderPredictor:
    """Codes and reconstructions of one autoencoder bundle. Raises `BundleError` for any other bundle."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.bundle = Bundle.open(path)
        if self.bundle.card.head != "reconstruction":
            raise BundleError(f"{path} is no autoencoder: its head is '{self.bundle.card.head}'")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(self.bundle.model), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Sequence[np.ndarray]) -> Reconstructed:
        """RGB pictures, each (H, W, 3) uint8 of any size."""
        rule = self.bundle.card.preprocessing
        squares = np.stack([to_square(limit_side(i, rule.store_side), rule.side, rule.fit) for i in images])
        code, found = self._session.run(["embedding", "reconstruction"], {"image": squares})
        return Reconstructed(squares, np.asarray(found), np.asarray(code))

    def batches(
        self,
        images: Iterable[tuple[np.ndarray, Attributes]],
        size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Reconstructed]:
        """Any number of pictures in batches; `progress` is told how many were done."""
        waiting = iter(images)
        while batch := list(islice(waiting, size)):
            yield self([image for image, _ in batch])
            if progress:
                progress(len(batch))
