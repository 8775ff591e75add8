"""What every task whose model has an embedding makes of it: one tuple for its `Task(artifacts=…)`.

Light to import: what makes them is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml.task import Artifact

if TYPE_CHECKING:
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.dataset import Dataset


def embeddings(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """The embedding of every image as one Parquet table, and numbers that say whether the classes separate."""
    from derm_ml.embeddings.made import make_embeddings

    return make_embeddings(predictor, dataset, folder)


def embedding_map(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """t-SNE of all images as an image and as one interactive page. An image, not a distance."""
    from derm_ml.embeddings.made import make_map

    return make_map(predictor, dataset, folder)


def similar_images(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """The index that finds similar known images, a sheet of queries and neighbours, precision by class."""
    from derm_ml.embeddings.made import make_similar

    return make_similar(predictor, dataset, folder)


EMBEDDING_ARTIFACTS = (
    Artifact("embeddings", embeddings),
    Artifact("embedding_map", embedding_map, after=("embeddings",)),
    Artifact("similar_images", similar_images, after=("embeddings",)),
)
