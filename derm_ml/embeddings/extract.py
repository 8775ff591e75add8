"""Embeddings of a dataset's images, as one table: what maps, similar images and pseudo-labels start from.

    table = table_of(Classifier(bundle), dataset, folder)           # from the predictions that are kept there
    vectors(table[table["split"] == "train"])                       # (N, D) float32

The table has one row an image, in the order of the manifest: id, source, patient, lesion, group, split, label,
licence, embedding, model_version, dataset_md5 and, from a model that predicts, predicted and p.<label>.
Every picture goes through the bundle's own graph, as an upload to the endpoint does, so that their vectors compare.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from derm_ml import DermError, formats
from derm_ml.bundles.attributes import Attributes
from derm_ml.bundles.bundle import Bundle
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.files import replacing_file
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import predictions_of
from derm_ml.records import FROZEN, UNLABELLED

EVERYTHING = (*FROZEN, UNLABELLED)
FACTS = ("id", "source", "patient", "lesion", "group", "split", "label", "licence")  # copied from the manifest


class EmbeddingsError(DermError, ValueError):
    """A table of embeddings cannot be read."""


class Embedded(Protocol):
    """What a model says of N images: at least an `embedding` (N, D) float32."""

    @property
    def embedding(self) -> np.ndarray: ...


class Embedder(Protocol):
    """A bundle that turns pictures into vectors and predicts nothing: an autoencoder's."""

    bundle: Bundle

    def batches(
        self,
        images: Iterable[tuple[np.ndarray, Attributes]],
        size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Embedded]: ...


def table_of(
    classifier: Classifier,
    dataset: Dataset,
    folder: ModelFolder,
    progress: Callable[[int], None] | None = None,
    splits: Sequence[str] = EVERYTHING,
) -> pd.DataFrame:
    """The table of the images in these splits, from the predictions kept in the model folder.

    `progress` is told how many images had to be predicted. Raises `ValueError` if a vector is not finite.
    """
    asked = [name for name in splits if not dataset.split(name).empty]
    parts = [predictions_of(classifier, dataset, name, folder, progress) for name in asked]
    tables = [_table(classifier.bundle, dataset, p.rows, p.outputs.embedding, p.outputs.probabilities) for p in parts]
    rows = dataset.manifest.loc[dataset.manifest["split"].isin(asked)]
    return pd.concat(tables).set_index("id", drop=False).loc[rows["id"]].reset_index(drop=True)


def _table(
    bundle: Bundle, dataset: Dataset, rows: pd.DataFrame, found: np.ndarray, probabilities: np.ndarray | None
) -> pd.DataFrame:
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        first = rows["id"].iloc[int(broken.argmax())]
        raise ValueError(f"{int(broken.sum())} embeddings are not finite, the first is that of {first}")
    table = pd.DataFrame({name: rows[name].to_numpy() for name in FACTS})
    table["embedding"] = list(found)
    table["model_version"] = bundle.version
    table["dataset_md5"] = dataset.md5
    if probabilities is not None:
        labels = bundle.card.labels
        table["predicted"] = [labels[k] for k in probabilities.argmax(axis=1)]
        table[[f"p.{label}" for label in labels]] = probabilities
    return table


def codes_of(
    model: Embedder,
    dataset: Dataset,
    path: Path,
    known: Mapping[str, np.ndarray],
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """The table of the whole dataset by a model that predicts nothing, an autoencoder, kept at `path`.

    Read if it is of this model version and these data. Else made: `known` holds the vectors (D,) of images, by id, that
    were asked for already, and `progress` is told how many more were. Raises `ValueError` if a vector is not finite.
    """
    rows = dataset.manifest
    if path.exists():
        table = read_embeddings(path)
        origin = {"model_version": model.bundle.version, "dataset_md5": dataset.md5}
        if len(table) == len(rows) and all((table[name] == value).all() for name, value in origin.items()):
            return table
    others = rows.loc[~rows["id"].isin(list(known))]
    images = ((dataset.image(row), dataset.attributes(row)) for row in others.to_dict("records"))
    codes = (code for outputs in model.batches(images, progress=progress) for code in outputs.embedding)
    found = {**known, **dict(zip(others["id"], codes, strict=True))}
    write_embeddings(_table(model.bundle, dataset, rows, np.stack([found[name] for name in rows["id"]]), None), path)
    return read_embeddings(path)


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
