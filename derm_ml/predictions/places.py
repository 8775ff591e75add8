"""Where the lesions of a dataset's images are: drawn by a segmenter, else as the dataset's masks say, else the middle.

places = LesionPlaces.here()                 with the segmenter this installation names, if any
places.of(dataset, row), places.said
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from derm_ml.bundles.segmenter import Segmenter
from derm_ml.data.dataset import Dataset
from derm_ml.images.lesion_place import boxed, central
from derm_ml.model_folder import bundle_named
from derm_ml.places import lesion_segmenter


@dataclass(frozen=True)
class LesionPlaces:
    """Finds the place of a lesion; `segmenter` None: from the dataset's masks, else the middle of the image."""

    segmenter: Segmenter | None = None

    @classmethod
    def here(cls) -> LesionPlaces:
        """With the segmenter this installation names, if any. Raises `BundleError` where it cannot be opened."""
        path = lesion_segmenter()
        return cls(Segmenter(bundle_named(path)) if path else None)

    def of(self, dataset: Dataset, row: Mapping[str, Any], image: np.ndarray) -> np.ndarray:
        """(H, W) bool in the frame of the stored image; the middle where a mask is empty."""
        mask = self._mask(dataset, row, image)
        found = None if mask is None else boxed(mask)
        return central(*image.shape[:2]) if found is None else found

    def said(self, dataset: Dataset) -> str:
        """Which places these are, for a reader of the report."""
        if self.segmenter:
            return f"the box around the mask of segmenter {self.segmenter.bundle.version}"
        return (
            "the box around the mask in the dataset" if "mask.shard" in dataset.manifest else "an ellipse in the middle"
        )

    def _mask(self, dataset: Dataset, row: Mapping[str, Any], image: np.ndarray) -> np.ndarray | None:
        if self.segmenter:
            return self.segmenter.segment([image])[0].mask
        if not isinstance(row.get("mask.shard"), str):
            return None
        height, width = image.shape[:2]
        return cv2.resize(dataset.mask(row), (width, height), interpolation=cv2.INTER_NEAREST)
