"""A table of findings: one row an image, one column of 0 and 1 a finding, beside the images; ODIR-5K is one.

    train.csv      filename[,patient_id][,eye][,age][,sex][,site][,split], then one column for each finding
    train/         the listed images (any folder name does, and none)
    unlabeled/     images without labels (also `unlabelled/`)

A finding is 1, 0 or empty (not known). For a task whose classes exclude each other a column is a class: a row shows
one, or none and is left out. Rows and images are joined by file name, and must be the same set: a missing
or unlisted image stops the reading. Where every listed file is called `<patient_id>_<eye>`, the unlabelled ones are
read that way too, so that the fellow eye of a test patient is known to be one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from pathlib import Path, PurePosixPath

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.csv_table import TableRow, columns_of, read_csv
from derm_ml.data.sources.image_files import distinct_ids, image_files
from derm_ml.data.sources.labels import LabelMap, normal
from derm_ml.data.sources.split_names import row_split, split_column
from derm_ml.data.sources.text_files import quoted, some
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

UNLABELLED_FOLDERS = frozenset({"unlabeled", "unlabelled"})
NO_CLASS = "none of the classes"
ABOUT = frozenset(
    {"filename", "patient_id", "lesion_id", "eye", "age", "sex", "site", "split", "fitzpatrick", "monk", "device"}
)  # columns that are no finding
EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right"}


def recognise(tree: Tree, labels: LabelMap) -> bool:
    name = _table(tree)
    if name is None:
        return False
    columns = columns_of(tree.root / name)
    return "filename" in columns and "label" not in columns and len(columns - ABOUT) > 1


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read the table and the images below the folder; a map without labels takes every finding of the table.

    Raises `DataError` for a table that is wrong, and where rows and images are not the same set.
    """
    name = _table(tree)
    if name is None:
        raise DataError(
            f"{tree.root}: there is no table train.csv; write one with filename and a column for each finding"
        )
    path = tree.root / name
    rows = read_csv(path, ("filename",), unique="filename")
    split = split_column(rows)
    columns = _findings(path, rows[0], labels, {*ABOUT, split})
    exclusive = bool(labels.labels) and len(columns) > 1
    files, problems = image_files(tree, deep=True)
    unlabelled = [file for file in files if UNLABELLED_FOLDERS & {part.lower() for part in Path(file).parts[:-1]}]
    located = _joined(path, rows, sorted(set(files) - set(unlabelled)))
    names = distinct_ids([*located, *unlabelled])
    samples: list[Sample] = []
    left_out: Counter[str] = Counter()
    set_aside: dict[str, str] = {}
    for row, file, name in zip(rows, located, names[: len(rows)], strict=True):
        shows = _class(row, list(columns)) if exclusive else ""
        target = _one_class(row, shows, labels) if exclusive else {f: _target(row, c) for c, f in columns.items()}
        if target is None:
            left_out[shows or NO_CLASS] += 1
            set_aside[file] = f"its label {shows or NO_CLASS} is left out"
            continue
        samples.append(
            Sample(
                name,
                {"image": file},
                target,
                patient=row.get("patient_id"),
                lesion=row.get("lesion_id"),
                split=row_split(row, split),
                attributes=_about(row),
                listed_in=path.name,
                row=row.line,
                named=shows,
            )
        )
    named = all(PurePosixPath(row["filename"]).stem == f"{row.get('patient_id')}_{row.get('eye')}" for row in rows)
    for file, name in zip(unlabelled, names[len(rows) :], strict=True):
        patient, _, eye = Path(file).stem.rpartition("_") if named else ("", "", "")
        known = {"eye": EYES[eye.lower()]} if eye.lower() in EYES else {}
        samples.append(Sample(name, {"image": file}, patient=patient if known else "", attributes=known))
    return Reading(tuple(samples), tuple[Problem, ...](problems), dict(left_out), set_aside=set_aside)


def _class(row: TableRow, columns: list[str]) -> str:
    """The one column that is 1, "" for none. Raises `DataError` for two at once."""
    there = [column for column in columns if _target(row, column) == 1]
    if len(there) > 1:
        raise row.error(f"the image is {' and '.join(there)} at once", "set all but one of them to 0")
    return there[0] if there else ""


def _one_class(row: TableRow, shows: str, labels: LabelMap) -> dict[str, float] | None:
    return labels.target_at(row, shows) if shows else None


def _table(tree: Tree) -> str | None:
    if tree.has_file("train.csv"):
        return "train.csv"
    tables = tree.files(deep=False, ending=".csv")
    return tables[0] if len(tables) == 1 else None


def _findings(path: Path, row: TableRow, labels: LabelMap, about: Set[str]) -> dict[str, str]:
    """Column → finding. With labels given, exactly those; else every column that is not about the image."""
    found = {column: normal(column) for column in row.values if column not in about}
    unnamed = [column for column, name in found.items() if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]
    if unnamed:
        raise DataError(
            f"{path}:1: column '{quoted(unnamed[0])}' cannot name a finding; use letters, digits and spaces"
        )
    if not labels.labels:
        return found
    known = {column: name for column, name in found.items() if labels.knows(name)}
    missing = [label for label in labels.labels if label not in found.values()]
    if missing and len(known) < 2:  # one class alone excludes nothing
        raise DataError(f"{path}:1: missing column {', '.join(missing)}; the header has: {some(list(row.values))}")
    return known


def _joined(path: Path, rows: list[TableRow], images: list[str]) -> list[str]:
    """The image of each row, by path or by name. Raises `DataError` unless rows and images are the same set."""
    by_name: dict[str, list[str]] = {}
    there = set(images)
    for image in images:
        by_name.setdefault(PurePosixPath(image).name, []).append(image)
    located = []
    for row in rows:
        given = row["filename"].replace("\\", "/")
        found = [given] if given in there else by_name.get(given, [])
        if not found:
            raise row.error(f"there is no image {quoted(row['filename'])}", "add it, or remove the row")
        if len(found) > 1:
            raise row.error(
                f"{quoted(row['filename'])} is there twice ({some(found)})", "write its path, or remove one"
            )
        located.append(found[0])
    unlisted = sorted(there - set(located))
    if unlisted:
        raise DataError(
            f"{path}: {len(unlisted)} images are not listed ({some(unlisted)}); "
            "add rows, or move them to a folder 'unlabelled'"
        )
    return located


def _target(row: TableRow, column: str) -> float:
    value = row.number(column, 0, 1)
    if value not in (None, 0, 1):
        raise row.error(f"{column} is '{quoted(row[column])}'", "write 1, 0, or leave it empty if it is not known")
    return float("nan") if value is None else value


def _about(row: TableRow) -> dict[str, str | float]:
    eye = row.get("eye").lower()
    if eye and eye not in EYES:
        raise row.error(f"eye is '{quoted(eye)}'", "write left or right, or leave it empty")
    return attributes_of(row) | ({"eye": EYES[eye]} if eye else {})
