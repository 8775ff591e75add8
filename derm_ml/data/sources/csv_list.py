"""A folder of images with a list: `labels.csv`, the only CSV file with these columns, or one list a split.

    filename,label[,split][,patient_id][,lesion_id][,age][,sex][,site][,fitzpatrick][,monk][,device]

`filename` is a path relative to the list, or the name of an image anywhere below, with or without its ending; other
case and other people's folders before it do not matter as long as one image fits. `split` (or `set`, `subset`,
`partition`) is train, validation or test, or empty; `train.csv`, `valid.csv` and `test.csv`, also `train_labels.csv`,
are each a split. The lists may lie in a folder of their own beside those of the images (`lists/labels.csv`). A sample's
id is its file name without ending; where two share it, their whole path joined by hyphens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.csv_table import TableRow, columns_of, read_csv
from derm_ml.data.sources.image_files import distinct_ids, image_files, is_image, unlisted
from derm_ml.data.sources.image_index import ImageIndex, several
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.split_names import folder_split, list_split, row_split, split_column
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

_COLUMNS = {"filename", "label"}


def recognise(tree: Tree, labels: LabelMap) -> bool:
    return bool(_lists(tree))


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read the lists and the images below the folder. Raises `DataError` for a list that is wrong."""
    lists = _lists(tree)
    if not lists:
        raise DataError(f"{tree.root}: there is no list labels.csv; write one with the columns filename and label")
    files, problems = image_files(tree, deep=True)
    index = ImageIndex(tree, files)
    samples: list[Sample] = []
    left_out: Counter[str] = Counter()
    set_aside: dict[str, str] = {}
    placed: dict[str, TableRow] = {}
    for name in lists:
        stem = PurePosixPath(name).stem
        of_list = folder_split(stem) or (list_split(stem) if len(lists) > 1 else "")
        rows = read_csv(tree.root / name, ("filename", "label"), unique="filename")
        split = split_column(rows)
        for row in rows:
            target = labels.target_at(row, row["label"])
            file = _locate(row, index)
            if file and (before := placed.setdefault(file, row)) is not row:
                raise row.error(
                    f"{quoted(file)} stands on line {before.line} of {before.path.name} already", "remove one"
                )
            if target is None:
                left_out[row["label"]] += 1
                set_aside |= {file: f"its label {quoted(row['label'])} is left out"} if file else {}
            elif not file:
                problems.append(Problem(name, f"image {quoted(row['filename'])} is not there; add it", row.line))
            else:
                samples.append(_sample(row, file, target, row_split(row, split) or of_list, name))
    problems += unlisted({file: file for file in files}, {*placed}, " or ".join(lists))
    ids = distinct_ids([sample.files["image"] for sample in samples])
    named = tuple(replace(sample, id=name) for sample, name in zip(samples, ids, strict=True))
    return Reading(named, tuple(problems), dict(left_out), set_aside=set_aside)


def _sample(row: TableRow, file: str, target: dict[str, float], split: str, listed_in: str) -> Sample:
    return Sample(
        file,
        {"image": file},
        target,
        patient=row.get("patient_id"),
        lesion=row.get("lesion_id"),
        split=split,
        attributes=attributes_of(row),
        listed_in=listed_in,
        row=row.line,
        named=row["label"],
    )


def _lists(tree: Tree) -> list[str]:
    """`labels.csv`; else the one list there is; else lists that each are a split."""
    if tree.has_file("labels.csv"):
        return ["labels.csv"]
    if found := _lists_in(tree, ""):
        return found
    # the one folder that holds lists and no image, beside those of the images
    inside = {folder: found for folder in tree.folders() if (found := _lists_in(tree, folder))}
    alone = [found for folder, found in inside.items() if not any(map(is_image, tree.files(folder)))]
    return alone[0] if len(inside) == len(alone) == 1 else []


def _lists_in(tree: Tree, folder: str) -> list[str]:
    """`labels.csv`, the one list, or the lists of splits of one folder."""
    lists = [name for name in tree.files(folder, deep=False, ending=".csv") if columns_of(tree.root / name) >= _COLUMNS]
    of_splits = [name for name in lists if list_split(PurePosixPath(name).stem)]
    named = [name for name in lists if PurePosixPath(name).name == "labels.csv"]
    return named or (lists if len(lists) == 1 else of_splits if len(of_splits) > 1 else [])


def _locate(row: TableRow, index: ImageIndex) -> str:
    """The path of a row's image relative to the root; "" if no image fits."""
    given = row["filename"].replace("\\", "/")
    if ".." in PurePosixPath(given).parts:
        raise row.error(
            f"filename '{quoted(row['filename'])}' leads out of the folder", "write it relative to the list"
        )
    found = index.find(given)
    if len(found) > 1:
        raise row.error(f"{quoted(row['filename'])} {several(found)}", "write its path, or remove one")
    if not found and PurePosixPath(given).is_absolute():
        raise row.error(
            f"filename '{quoted(row['filename'])}' leads out of the folder", "write it relative to the list"
        )
    return found[0] if found else ""
