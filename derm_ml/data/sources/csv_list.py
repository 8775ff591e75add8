"""A folder of images with a list: `labels.csv`, or the only CSV file there is.

    filename,label[,split][,patient_id][,lesion_id][,age][,sex][,site]

`filename` is relative to the list, or to a folder `images` beside it. `split` is train, validation or test, or
empty. A sample's id is its file name without ending; where two share it, their whole path joined by hyphens.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.class_folders import SPLIT_NAMES
from derm_ml.data.sources.csv_table import Row, columns_of, read_csv
from derm_ml.data.sources.image_files import distinct_ids, image_files, unlisted
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.text_files import shown
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

_COLUMNS = {"filename", "label"}


def recognise(tree: Tree, labels: LabelMap) -> bool:
    return _list(tree) is not None


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read the list and the images below the folder. Raises `DataError` for a list that is wrong."""
    name = _list(tree)
    if name is None:
        raise DataError(f"{tree.root}: there is no list labels.csv; write one with the columns filename and label")
    path = tree.root / name
    rows = read_csv(path, ("filename", "label"), unique="filename")
    files, problems = image_files(tree, deep=True)
    images = {file: file for file in files}
    located = [_locate(row, images) for row in rows]
    problems += unlisted(images, {*located}, path.name)
    samples: list[Sample] = []
    left_out: dict[str, int] = {}
    set_aside: dict[str, str] = {}
    for row, file, name in zip(rows, located, distinct_ids(located), strict=True):
        target = labels.target_at(row, row["label"])
        sample = Sample(
            name,
            {"image": file},
            target or {},
            patient=row.get("patient_id"),
            lesion=row.get("lesion_id"),
            split=_split(row),
            attributes=attributes_of(row),
            listed_in=path.name,
            row=row.line,
            named=row["label"],
        )
        if target is None:
            left_out[row["label"]] = left_out.get(row["label"], 0) + 1
            set_aside |= {file: f"its label {shown(row['label'])} is left out"} if file in images else {}
        elif file not in images:
            problems.append(Problem(path.name, f"image {shown(row['filename'])} is not there; add it", row.line))
        else:
            samples.append(sample)
    return Reading(tuple(samples), tuple(problems), left_out, set_aside=set_aside)


def _list(tree: Tree) -> str | None:
    if tree.has_file("labels.csv"):
        return "labels.csv"
    lists = [name for name in tree.files(deep=False, ending=".csv") if columns_of(tree.root / name) >= _COLUMNS]
    return lists[0] if len(lists) == 1 else None


def _locate(row: Row, images: dict[str, str]) -> str:
    """The path of a row's image relative to the root; as written if it is in neither place."""
    name = PurePosixPath(row["filename"].replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise row.error(f"filename '{shown(row['filename'])}' leads out of the folder", "write it relative to the list")
    return next((str(p) for p in (name, "images" / name) if str(p) in images), str(name))


def _split(row: Row) -> str:
    given = row.get("split").lower()
    if given and given not in SPLIT_NAMES:
        raise row.error(f"split is '{shown(given)}'", "write train, validation or test, or leave it empty")
    return SPLIT_NAMES.get(given, "")
