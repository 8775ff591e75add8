"""Records of services as tables: closed journals become Parquet, and everything is read as one table.

    pack(folder)                     journals that no process writes to any more → Parquet beside them
    table = records_below(folder)    one row a prediction, Parquet and open journals alike

Columns: at, role, prediction_id, task, model_version, dataset_md5, bento, images, point, predicted, score.<name>,
embedding.
"""

from __future__ import annotations

import base64
import fcntl
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from derm_ml import DermError, formats
from derm_ml.answered.journal import CHALLENGER, CLOSED, OPEN, SERVED, files_of_records
from derm_ml.files import replacing_file

FACTS = ("at", "role", "prediction_id", "task", "model_version", "dataset_md5", "bento", "images", "point", "predicted")
_log = logging.getLogger(__name__)


class RecordsError(DermError, ValueError):
    """A file of prediction records is damaged or of a newer version."""


def pack(folder: Path) -> list[Path]:
    """Turn every journal that no process writes to into a Parquet file of the same name; the files that were made.

    The table appears whole before the journal goes: a crash in between leaves both, and readers take the table.
    """
    made = []
    for path in files_of_records(folder):
        if path.suffix == OPEN and _is_closed(path):
            target = path.with_suffix(CLOSED)
            if not target.exists():
                with replacing_file(target) as temporary:
                    _table(read_journal(path)).to_parquet(temporary, index=False)
                made.append(target)
            path.unlink()
    return made


def records_below(folder: Path, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> pd.DataFrame:
    """All records below a folder, its subfolders too, oldest first; `wanted` chooses rows."""
    folders = [folder, *sorted(path for path in folder.glob("*/") if path.is_dir())] if folder.is_dir() else []
    rows = [row for below in folders for row in _rows_of(below) if wanted(row)]
    return _table(sorted(rows, key=lambda row: str(row["at"])))


def served(table: pd.DataFrame) -> pd.DataFrame:
    """The records of answers that somebody got: without what a challenger was asked unseen."""
    return table.loc[table["role"] != CHALLENGER]


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal; a line that was torn is named in the log and passed over.

    Raises `RecordsError` for a line of a newer version.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            stored = json.loads(line)
        except ValueError:
            _log.warning("%s, line %d is torn: a full disk or a power cut; it is passed over", path, number)
            continue
        record = formats.ANSWERED.read(stored, f"{path}, line {number}", RecordsError)
        packed = record.pop("embedding", None)
        record["embedding"] = None if packed is None else np.frombuffer(base64.b64decode(packed), "<f2").tolist()
        scores = record.pop("scores")
        yield {**record, **{f"score.{name}": value for name, value in scores.items()}}


def _rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    files = files_of_records(folder)
    tables = {path.stem for path in files if path.suffix == CLOSED}
    for path in files:
        if path.suffix == CLOSED:
            yield from _read_table(path)
        elif path.stem not in tables:
            yield from read_journal(path)


def _read_table(path: Path) -> Iterator[dict[str, Any]]:
    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
    except (ArrowException, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise RecordsError(f"{path} is damaged ({said}): move it away or put a backup in its place") from error
    for row in table.to_dict("records"):
        known = {str(name): value for name, value in row.items() if not (isinstance(value, float) and value != value)}
        yield {"role": SERVED, **known}  # tables of before there were challengers do not say


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    found = pd.DataFrame(list(rows))
    return found.reindex(columns=[*FACTS, *(c for c in found.columns if c not in FACTS)])


def _is_closed(path: Path) -> bool:
    """Whether no process holds the journal's lock."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
