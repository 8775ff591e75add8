"""A segmenter's predictions of one split: the masks its evaluation scores and its figures show.

    test = masks_of(Segmenter(bundle), dataset, "test", model_folder)
    test.mask(0), test.answered(0), test.confidence

A kept table has one row an image, in the order of the manifest: id; mask, a PNG in the frame of the true mask;
answered, a PNG in the frame of the stored image, as the endpoint answers it (missing where both frames are one);
confidence (float64); and of a model with an input gate what it says: quality, in_distribution, abstained,
abstained_because. A mask of some megapixels takes a few kB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa

from derm_ml.asking.answers import Fitness
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.bundles.square_predictor import batched
from derm_ml.data.dataset import Dataset
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.kept import About, kept_table
from derm_ml.progress import say_predicted

KIND = "segmenter"
BATCH = 8


@dataclass(frozen=True)
class Masks:
    """What a segmenter says of rows of a dataset's manifest; `confidence` (N,) float64 in 0..1 and `fits`, in their
    order."""

    rows: pd.DataFrame
    confidence: np.ndarray
    fits: list[Fitness]
    _masks: list[bytes]
    _answered: list[bytes | None]

    def mask(self, place: int) -> np.ndarray:
        """(H, W) uint8 of 0 and 255, in the frame of the true mask."""
        return _decoded(self._masks[place])

    def answered(self, place: int) -> np.ndarray:
        """(H, W) uint8 of 0 and 255, in the frame of the stored image."""
        return _decoded(self._answered[place] or self._masks[place])


def masks_of(segmenter: Segmenter, dataset: Dataset, split: str, model_folder: ModelFolder | None = None) -> Masks:
    """What the segmenter says of every image of a split.

    Read below `model_folder` where it is kept, else predicted and kept there; without a folder predicted afresh.
    """
    rows = dataset.split(split)
    table = kept_table(
        model_folder,
        About.of(KIND, segmenter.bundle, dataset, split),
        rows["id"].astype(str).tolist(),
        lambda: _as_table(segmenter, dataset, rows),
    )
    return _as_masks(rows, table)


def segment_rows(segmenter: Segmenter, dataset: Dataset, rows: pd.DataFrame) -> Masks:
    """What the segmenter says of each row, asked afresh as the endpoint would be: from its stored bytes."""
    return _as_masks(rows, _as_table(segmenter, dataset, rows))


def _as_table(segmenter: Segmenter, dataset: Dataset, rows: pd.DataFrame) -> pa.Table:
    found = list(_segmented(segmenter, dataset, rows))
    return pa.table(
        {
            "id": pa.array(rows["id"].astype(str), pa.string()),
            "mask": pa.array([mask for mask, _, _, _ in found], pa.binary()),
            "answered": pa.array([answered for _, answered, _, _ in found], pa.binary()),
            "confidence": pa.array([confidence for _, _, confidence, _ in found], pa.float64()),
            **(_gate_arrays([fit for _, _, _, fit in found]) if segmenter.gate else {}),
        }
    )


def _segmented(
    segmenter: Segmenter, dataset: Dataset, rows: pd.DataFrame
) -> Iterator[tuple[bytes, bytes | None, float, Fitness]]:
    """Mask, answered mask, confidence and fitness of each row; both frames from one run of the graph."""
    for batch in batched(rows.to_dict("records"), BATCH):
        images = [dataset.image(row) for row in batch]
        for row, image, square, fit in zip(batch, images, *segmenter.probabilities(images), strict=True):
            found = segmenter.framed(square, int(row["mask.height"]), int(row["mask.width"]))
            answered = None
            if found.mask.shape != image.shape[:2]:
                answered = _encoded(segmenter.framed(square, *image.shape[:2]).mask)
            yield _encoded(found.mask), answered, found.confidence, fit
        say_predicted(len(batch))


def _as_masks(rows: pd.DataFrame, table: pa.Table) -> Masks:
    gated = set(Fitness.model_fields) <= set(table.column_names)
    said = table.select(list(Fitness.model_fields)).to_pylist() if gated else [{}] * len(table)
    fits = [Fitness(**fit) for fit in said]
    masks, answered = table["mask"].to_pylist(), table["answered"].to_pylist()
    return Masks(rows, table["confidence"].to_numpy(), fits, masks, answered)


def _gate_arrays(fits: list[Fitness]) -> dict[str, pa.Array]:
    return {name: pa.array([getattr(fit, name) for fit in fits]) for name in Fitness.model_fields}


def _encoded(mask: np.ndarray) -> bytes:
    return cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


def _decoded(png: bytes) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert mask is not None  # the table's hash was checked when it was opened
    return mask
