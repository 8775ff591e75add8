"""One Classifier predicts for everybody: evaluation, heatmaps, embeddings, the command line, serving.

It reads a bundle, runs its graph and returns arrays. Because nothing else predicts, what was evaluated is what is
served.

Example:
    >>> classifier = Classifier(Path("out/lesion_classification/strong/bundle"))
    >>> classifier([image]).probabilities.shape
    (1, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from derm_ml.asking.answers import Fitness
from derm_ml.bundles.attributes import Attributes, encode_attributes
from derm_ml.bundles.calibration import calibrated, with_fellow_logits
from derm_ml.bundles.seen import saw
from derm_ml.bundles.square_predictor import SquarePredictor, batched
from derm_ml.bundles.views import mean_map
from derm_ml.images.condition import in_picture


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the graph says of N images, L labels.

    logits (N, L) float32, averaged over the views, before calibration;
    probabilities (N, L) float32 in 0..1, calibrated;
    embedding (N, D) float32, the layer before the head;
    maps (N, L, h, w) float32: Grad-CAM of every label, ≥ 0, not normalised;
    statistics (N, S) float32: what the images look like (images/statistics.py), which the input gate judges too.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    embedding: np.ndarray
    maps: np.ndarray
    statistics: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)


class Classifier(SquarePredictor):
    """Predictions of one classifier's bundle."""

    heads = ("softmax", "sigmoid")

    def __call__(self, images: Sequence[np.ndarray], attributes: Sequence[Attributes] | None = None) -> Outputs:
        """Predict RGB images, each (H, W, 3) uint8 of any size, with optional attributes (`age`, `sex`) for each."""
        logits, embedding, maps = self.seen(self.squares(images), attributes)
        saw(embedding)
        return Outputs(logits, calibrated(self.card, logits), embedding, maps, self.statistics(images))

    def seen(
        self, squares: np.ndarray, attributes: Sequence[Attributes] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits (N, L), embedding (N, D) and maps (N, L, h, w) of squares (N, side, side, 3) uint8, over the views."""
        card = self.card
        beside = {}
        if card.attributes:
            beside["attributes"] = encode_attributes(attributes or [{}] * len(squares), card.attributes)
        found = self._session.run_views(("logits", "embedding", "maps"), squares, card.views, beside)
        logits, embedding = (np.stack([view[k] for view in found]).mean(axis=0) for k in (0, 1))
        return logits, embedding, mean_map([view[2] for view in found], card.views)

    def fitness(self, outputs: Outputs) -> list[Fitness]:
        """For each image of the outputs whether the model is fit to answer about it."""
        return self.judged(outputs.statistics, outputs.embedding)

    def batches(
        self,
        images: Iterable[tuple[np.ndarray, Attributes]],
        size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Outputs]:
        """Predict any number of images in batches; `progress` is told how many were done. Memory stays bounded."""
        for batch in batched(images, size):
            yield self([image for image, _ in batch], [attributes for _, attributes in batch])
            if progress:
                progress(len(batch))

    def with_fellows(self, outputs: Outputs, fellows: np.ndarray) -> Outputs:
        """The same outputs (N), each logit averaged with that of the person's other eye as the bundle says.

        `fellows` (N,) int: the place of the other eye's photo among the outputs, -1 where there is none.
        """
        if not self.card.fellow:
            return outputs
        logits = with_fellow_logits(outputs.logits, fellows, self.card.fellow)
        return replace(outputs, logits=logits, probabilities=calibrated(self.card, logits))

    def unsquared(self, cam: np.ndarray, image: np.ndarray) -> np.ndarray:
        """A map (h, w) over the square in the frame of the whole image, which is RGB of any size."""
        return in_picture(cam, image, self.card.preprocessing)

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(N, L) float32, averaged over the views, of images of whose people nothing is known."""
        return self(images).logits

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.labels),)

    def _numbers(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return self.logits(images)


def concatenate(outputs: Iterable[Outputs]) -> Outputs:
    """Outputs of batches as one. Raises `ValueError` if there are none."""
    parts = list(outputs)
    if not parts:
        raise ValueError("there is no image to predict")
    return Outputs(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Outputs)))
