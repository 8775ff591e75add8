"""Embeddings of a dataset's images, as one table: what maps, similar images and pseudo-labels start from.

    table = embeddings_of(Classifier(bundle), dataset, folder / "embeddings.parquet")    # made once, then read
    vectors(table[table["split"] == "train"])                                           # (N, D) float32

The table has one row an image, in the order of the manifest: id, source, patient, lesion, group, split, label,
licence, embedding, model_version, dataset_md5 and, from a model that predicts, predicted and p.<label>.
Every picture goes through the bundle's own graph, as an upload to the endpoint does, so that their vectors compare.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from derm_ml import DermError, formats
from derm_ml.bundles.attributes import Attributes
from derm_ml.bundles.bundle import Bundle
from derm_ml.bundles.classifier import Outputs
from derm_ml.data.dataset import Dataset
from derm_ml.files import replacing_file
from derm_ml.model_folder import ModelFolder

FACTS = ("id", "source", "patient", "lesion", "group", "split", "label", "licence")  # copied from the manifest


class EmbeddingsError(DermError, ValueError):
    """A table of embeddings cannot be read."""


class Embedded(Protocol):
    """What a model says of N images: at least an `embedding` (N, D) float32."""

    @property
    def embedding(self) -> np.ndarray: ...


class Embedder(Protocol):
    """A bundle that turns pictures into vectors: a `Classifier`, or the autoencoder's."""

    bundle: Bundle

    def batches(
        self,
        images: Iterable[tuple[np.ndarray, Attributes]],
        size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Embedded]: ...


def embed(
    model: Embedder, dataset: Dataset, rows: pd.DataFrame, progress: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """The table of `rows`, any rows of the dataset's manifest; `progress` is told how many images were done.

    Raises `ValueError` if a vector is not finite.
    """
    images = ((dataset.image(row), dataset.attributes(row)) for row in rows.to_dict("records"))
    outputs = list(model.batches(images, progress=progress))
    found = np.concatenate([o.embedding for o in outputs]) if outputs else np.empty((0, 0), np.float32)
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        first = rows["id"].iloc[int(broken.argmax())]
        raise ValueError(f"{int(broken.sum())} embeddings are not finite, the first is that of {first}")
    table = pd.DataFrame({name: rows[name].to_numpy() for name in FACTS})
    table["embedding"] = list(found)
    table["model_version"] = model.bundle.version
    table["dataset_md5"] = dataset.md5
    if outputs and all(isinstance(o, Outputs) for o in outputs):
        probabilities = np.concatenate([o.probabilities for o in outputs if isinstance(o, Outputs)])
        labels = model.bundle.card.labels
        table["predicted"] = [labels[k] for k in probabilities.argmax(axis=1)]
        table[[f"p.{label}" for label in labels]] = probabilities
    return table


def embeddings_of(
    model: Embedder, dataset: Dataset, path: Path, progress: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """The table of the whole dataset, kept at `path`: read if it is of this model version and these data, else made."""
    if path.exists():
        table = read_embeddings(path)
        origin = {"model_version": model.bundle.version, "dataset_md5": dataset.md5}
        if len(table) == len(dataset.manifest) and all((table[name] == value).all() for name, value in origin.items()):
            return table
    write_embeddings(embed(model, dataset, dataset.manifest, progress), path)
    return read_embeddings(path)


def table_of(
    model: Embedder, dataset: Dataset, folder: ModelFolder, progress: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """The model's embedding table, where all artifacts look for it."""
    return embeddings_of(model, dataset, folder.embeddings, progress)


def vectors(table: pd.DataFrame) -> np.ndarray:
    """The embeddings of a table as (N, D) float32."""
    return np.stack(table["embedding"].tolist()).astype(np.float32, copy=False)


def unit(found: np.ndarray) -> np.ndarray:
    """(N, D) → rows of length 1 float32, so that a scalar product is a cosine; a row of zeros stays one."""
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.ascontiguousarray(found / np.where(lengths > 0, lengths, 1), np.float32)


def write_embeddings(table: pd.DataFrame, path: Path) -> None:
    """Write the table as Parquet, whole or not at all; the embedding is a list of D float32."""
    plain = pa.Table.from_pandas(table.drop(columns="embedding"), preserve_index=False)
    found = vectors(table)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1])
    whole = plain.append_column("embedding", lists)
    said = {**(whole.schema.metadata or {}), formats.VERSION: str(formats.EMBEDDINGS.version)}
    with replacing_file(path) as temporary:
        pq.write_table(whole.replace_schema_metadata(said), temporary)


def read_embeddings(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read what `write_embeddings` wrote, all columns or some. Raises `EmbeddingsError` for another version of it."""
    data = path.read_bytes()
    said = pq.read_schema(io.BytesIO(data)).metadata or {}
    formats.EMBEDDINGS.check_text(said.get(formats.VERSION.encode(), b"").decode(), path, EmbeddingsError)
    options: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
    return pd.read_parquet(io.BytesIO(data), **options)
