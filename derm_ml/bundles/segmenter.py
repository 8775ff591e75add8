"""One Segmenter draws every mask: evaluation, the command line, serving, and other tasks that want a lesion hidden.

Example:
    >>> segmenter = Segmenter(Path("out/lesion_segmentation/strong/bundle"))
    >>> segmenter.segment([image])[0].mask.shape == image.shape[:2]
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from derm_ml.asking.answers import Fitness
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.seen import saw
from derm_ml.bundles.square_predictor import SquarePredictor
from derm_ml.bundles.views import mean_map
from derm_ml.images.masks import cleaned
from derm_ml.images.preprocess import in_frame, without_padding
from derm_ml.images.settings import Squaring


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a segmenter says of one image of height H and width W.

    mask (H, W) uint8 of 0 and 255, in the frame of the image, cleaned as the bundle's mask rule says;
    square (S, S) float32 in 0..1, the probability of each pixel of the square the network saw, not cleaned;
    confidence in 0..1: the Dice of the mask, if each pixel were lesion with just the probability it was given;
    fitness: whether the model is fit to say any of it, by its input gate.
    """

    mask: np.ndarray
    square: np.ndarray
    confidence: float
    fit: Squaring
    fitness: Fitness = field(default_factory=Fitness)

    @property
    def probability(self) -> np.ndarray:
        """(H, W) float32 in 0..1, in the frame of the image, not cleaned; 0 where a crop saw nothing."""
        height, width = self.mask.shape
        return in_frame(self.square, height, width, self.fit)


class Segmenter(SquarePredictor):
    """Masks of one segmenter's bundle, whichever task it is of."""

    heads = ("mask",)

    def segment(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Segmentation]:
        """Draw the masks of RGB images, each (H, W, 3) uint8 of any size.

        `sizes` are the (height, width) of the frames the masks are wanted in, where they are not the images' own:
        a dataset stores images shrunk and measures masks at the original size.
        """
        frames = sizes or [image.shape[:2] for image in images]
        squares, fits = self.probabilities(images)
        return [
            replace(self.framed(square, *frame), fitness=fit)
            for square, fit, frame in zip(squares, fits, frames, strict=True)
        ]

    def probabilities(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Fitness]]:
        """(N, S, S) float32 in 0..1, of each pixel of the squares the network saw of RGB images of any size; and for
        each image whether the model is fit to answer about it."""
        logits, embeddings = self.seen(images)
        if embeddings is not None:
            saw(embeddings)
        fits = self.judged(self.statistics(images), embeddings) if self.gate else [Fitness() for _ in images]
        return calibrated(self.card, logits)[:, 0], fits

    def seen(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Logits (N, L, S, S) float32 over the squares and embeddings (N, D) float32, both averaged over the views; no
        embeddings where the graph, of an older bundle, gives none."""
        names = ("logits", "embedding") if "embedding" in self._session.outputs else ("logits",)
        found = self._session.run_views(names, self.squares(images), self.card.views, {})
        logits = mean_map([outputs[0] for outputs in found], self.card.views)
        return logits, np.stack([outputs[1] for outputs in found]).mean(axis=0) if len(names) > 1 else None

    def framed(self, square: np.ndarray, height: int, width: int) -> Segmentation:
        """One square of `probabilities` as a mask in a frame of the image: its own, or the one it was shrunk from."""
        rule, fit = self.card.mask_rule, self.card.preprocessing.fit
        square = without_padding(square, height, width, fit)
        kept = cleaned(square, rule)
        inside = kept >= rule.threshold
        # in 255 steps: the map of a 40-megapixel photo in float would take 160 MB a request
        fine = in_frame(np.round(kept * 255).astype(np.uint8), height, width, fit)
        mask = np.where(fine >= rule.threshold * 255, np.uint8(255), np.uint8(0))
        expected = 2 * square[inside].sum() / (inside.sum() + square.sum()) if inside.any() else 1 - square.max()
        return Segmentation(mask, square, float(expected), fit)

    @property
    def _shape(self) -> tuple[int, ...]:
        side = self.card.preprocessing.side
        return len(self.labels), side, side

    def _numbers(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return self.seen(images)[0]
