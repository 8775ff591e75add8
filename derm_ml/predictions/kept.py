"""Predictions on disk: one Parquet file for each model, dataset and split, which says itself whose it is.

    <model folder>/predictions/<dataset md5, 12 digits>/<split>.parquet

A file is read only if it names this very model version, dataset, split and cases; any other, or a damaged one, is named
in the log and made again. It appears whole or not at all, so a pass that was killed starts again with the split it was
at. Of two processes that want the same table the second waits and reads what the first one made.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from derm_ml import DermError, formats
from derm_ml.bundles.bundle import Bundle
from derm_ml.data.dataset import Dataset
from derm_ml.files import replacing_file
from derm_ml.machine import writing
from derm_ml.model_folder import ModelFolder

_ABOUT = b"derm_predictions"  # keys of the Parquet file's own metadata
_DIGEST = b"derm_sha256"
_log = logging.getLogger(__name__)


class PredictionsError(DermError, ValueError):
    """A file of predictions is damaged, of another format, or of something else than what was asked for."""


@dataclass(frozen=True, slots=True)
class About:
    """Whose predictions a table holds. `kind` is the kind of predictor: `classifier`, `segmenter`, `pairs`."""

    kind: str
    model_version: str
    dataset_md5: str
    split: str
    split_hash: str

    @classmethod
    def of(cls, kind: str, bundle: Bundle, dataset: Dataset, split: str) -> Self:
        """`bundle` on the rows this dataset has in `split`."""
        return cls(kind, bundle.version, dataset.md5, split, dataset.split_hash(split))

    def path(self, folder: ModelFolder) -> Path:
        """Where the table lies in the model folder."""
        return folder.predicted(self.dataset_md5, self.split)


def kept_table(
    model_folder: ModelFolder | None,
    about: About,
    ids: Sequence[str],
    make: Callable[[], pa.Table],
    check: Callable[[pa.Table], None] = lambda _: None,
) -> pa.Table:
    """The table of these cases: read where it is kept, else made and kept; only made without a model folder.

    Its column `id` holds the `ids` in their order. `check` raises `ValueError` or `KeyError` for a kept table that
    contradicts itself. Raises `WriteError` if the table cannot be kept.
    """
    if model_folder is None:
        return make()
    path = about.path(model_folder)
    try:
        return read_kept(path, about, ids, check)  # who may only read cannot hold the lock
    except PredictionsError:
        pass
    with _one_at_a_time(path):
        try:
            return read_kept(path, about, ids, check)
        except PredictionsError as error:
            if path.exists():
                _log.warning("%s; predicting again", error)
        table = make()
        write_kept(path, about, table)
        return table


def write_kept(path: Path, about: About, table: pa.Table) -> None:
    """Write a table with what it is about, whole or not at all.

    A checksum guards each page, and a hash of the content what no page holds: the names and kinds of the columns.
    """
    named = {
        formats.VERSION: str(formats.PREDICTIONS.version),
        _ABOUT: json.dumps(asdict(about)),
        _DIGEST: _digest(table),
    }
    with replacing_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(named), temporary, compression="zstd", write_page_checksum=True)


def read_kept(
    path: Path, about: About, ids: Sequence[str], check: Callable[[pa.Table], None] = lambda _: None
) -> pa.Table:
    """The table at `path`. Raises `PredictionsError` naming the first thing about it that is not as asked."""
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()), page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        said, version = json.loads(metadata[_ABOUT]), metadata.get(formats.VERSION.encode(), b"").decode()
    except (pa.ArrowException, OSError, KeyError, AttributeError, ValueError) as error:  # Arrow says OSError of a page
        raise PredictionsError(f"{path} cannot be read as a table of predictions: {error}") from error
    formats.PREDICTIONS.check_text(version, path, PredictionsError)
    if metadata.get(_DIGEST, b"").decode() != _digest(table):
        raise PredictionsError(f"{path} is damaged: its content is not what its sha256 says")
    for name, wanted in asdict(about).items():
        if said.get(name) != wanted:
            raise PredictionsError(f"{path} is of {name} {said.get(name)}, not of {wanted}")
    if "id" not in table.column_names or table["id"].to_pylist() != list(ids):
        raise PredictionsError(f"{path} does not hold the cases of the split in their order")
    try:
        check(table)
    except (KeyError, ValueError) as error:
        raise PredictionsError(f"{path} contradicts itself: {error}") from error
    return table


def _digest(table: pa.Table) -> str:
    """sha256 of names, types and values, whatever the chunks the table lies in."""
    hashed = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = str(field.type).replace("<item:", "<element:")  # what Arrow calls an item, Parquet calls an element
        hashed.update(f"{field.name} {kind} {len(column)}".encode())
        whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], field.type)
        batch = pa.record_batch([whole], names=["values"])
        hashed.update(batch.serialize())
    return hashed.hexdigest()


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold the lock of a table; another process waits. The system frees it when a process dies."""
    with writing(path, making=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.stem}.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("another process predicts %s: waiting for it", path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
