"""What publishers call their splits: in a column, as a folder above lists and images, in the name of a list.

split_column(rows)            → "set", where there is no column "split" and "set" holds names of splits
folder_split("Training_Set")  → "train"
path_split("b. Testing Set/IDRiD_001.jpg") → "test"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from derm_ml.data.diagnoses import normal
from derm_ml.data.sources.csv_table import UNKNOWN, TableRow
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import Sample

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
}
ALSO_SPLIT = ("set", "subset", "partition", "phase", "usage", "dataset_split", "data_split")
# `Training_Set`, `test_images`, `a. Training Set`, `train2017`: a split's name and a word that says no more
_FOLDER = re.compile(
    r"(?:[a-z0-9]\._)?(?:images?_)?(train|training|val|valid|validation|dev|test|testing)"
    r"(?:_?(?:set|data|dataset|images?|imgs|jpg|jpeg|png|split|folder|input|\d{4}))*"
)


def folder_split(name: str) -> str:
    """The split that a folder's name says, or "" for any other name."""
    found = _FOLDER.fullmatch(normal(name))
    return SPLIT_NAMES[found[1]] if found else ""


def path_split(path: str) -> str:
    """The split that the nearest of the folders above a file names, or ""."""
    folders = PurePosixPath(path).parts[:-1]
    return next((split for folder in reversed(folders) if (split := folder_split(folder))), "")


def list_split(name: str) -> str:
    """The split that the name of a list says by one of its words: `instances_train2017` → train."""
    found = {split for word in re.split(r"[._\- ]+", normal(name)) if (split := folder_split(word))}
    return found.pop() if len(found) == 1 else ""


def split_column(rows: Sequence[TableRow]) -> str:
    """The column that says the split: `split`, else one of the names others give it, where it holds nothing else.

    "" where there is none.
    """
    columns = rows[0].values.keys() if rows else ()
    if "split" in columns:
        return "split"
    return next((name for name in ALSO_SPLIT if name in columns and _holds_splits(rows, name)), "")


def _holds_splits(rows: Sequence[TableRow], column: str) -> bool:
    given = {row.values[column].lower() for row in rows} - UNKNOWN
    return len({SPLIT_NAMES.get(value, "") for value in given} - {""}) > 1 and given <= SPLIT_NAMES.keys()


def row_split(row: TableRow, column: str) -> str:
    """The split a row says in `column`; "" where there is none, or its value is one of `UNKNOWN`.

    Raises `DataError` for a value that names no split.
    """
    given = row.get(column).lower() if column else ""
    if given and given not in SPLIT_NAMES:
        raise row.error(f"{column} is '{quoted(given)}'", "write train, validation or test, or leave it empty")
    return SPLIT_NAMES.get(given, "")


def with_folder_splits(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Samples that no list and no layout puts into a split, in the one that a folder above them names.

    One split alone is none: a `train` folder in which everything lies says nothing.
    """
    of_folder = {s.id: path_split(next(iter(s.files.values()))) for s in samples if not s.split and s.labelled}
    if len({s.split or of_folder[s.id] for s in samples if s.labelled}) < 2:
        return tuple(samples)
    return tuple(replace(s, split=of_folder[s.id]) if of_folder.get(s.id) else s for s in samples)
