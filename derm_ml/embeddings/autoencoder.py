"""A trained autoencoder as a user meets it: pictures → codes and reconstructions, in ONNX Runtime.

model = AutoencoderPredictor(Path("out/lesion_classification/strong_autoencoder-…/bundle"))
model([image]).embedding, model([image]).reconstruction
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from derm_ml.bundles.attributes import Attributes
from derm_ml.bundles.square_predictor import SquarePredictor, batched


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """Of N pictures: `square` and `reconstruction` (N, S, S, 3) uint8, `embedding` (N, D) float32, the code."""

    square: np.ndarray
    reconstruction: np.ndarray
    embedding: np.ndarray


class AutoencoderPredictor(SquarePredictor):
    """Codes and reconstructions of one autoencoder's bundle."""

    heads = ("reconstruction",)

    def __call__(self, images: Sequence[np.ndarray]) -> Reconstructed:
        """RGB images, each (H, W, 3) uint8 of any size."""
        squares = self.squares(images)
        code, found = self._session.run(["embedding", "reconstruction"], {"image": squares})
        return Reconstructed(squares, found, code)

    def batches(
        self,
        images: Iterable[tuple[np.ndarray, Attributes]],
        size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Reconstructed]:
        """Any number of images in batches; `progress` is told how many were done."""
        for batch in batched(images, size):
            yield self([image for image, _ in batch])
            if progress:
                progress(len(batch))

    @property
    def _shape(self) -> tuple[int, ...]:
        side = self.card.preprocessing.side
        return side, side, 3

    def _numbers(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return self(images).reconstruction
