"""Data checks of pairs: sentences that are true of usable ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from derm_ml.asking.pair import FIRST, SECOND, box_fault
from derm_ml.data.rules import SHOWN
from derm_ml.records import SPLITS, Region
from derm_ml.task import Finding

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset


def a_pair_shows_one_patient(dataset: Dataset) -> Finding:
    """Both photos of a pair are of one patient, where the list names them."""
    table = dataset.manifest
    if "attribute.second_patient" not in table:
        return Finding(True, f"{len(table)} rows, none names a patient for the second photo alone")
    second = table["attribute.second_patient"].fillna("")
    wrong = table.loc[(second != "") & (table["patient"] != "") & (second != table["patient"])]
    rows = tuple(
        {"id": r["id"], "first": r["patient"], "second": r["attribute.second_patient"]}
        for r in wrong.head(SHOWN).to_dict("records")
    )
    if rows:
        return Finding(False, f"{len(wrong)} pairs are of two patients, e.g. {rows[0]['id']}; correct pairs.csv", rows)
    return Finding(True, f"{len(table)} pairs and photos, each of one patient")


def boxes_lie_inside_the_picture(dataset: Dataset) -> Finding:
    """Every box has an area and lies in its photo."""
    faults: list[dict[str, Any]] = []
    boxes = 0
    for row, role, regions in _regions(dataset):
        boxes += len(regions)
        for region in regions:
            if fault := box_fault(region, float(row[f"{role}.width"]), float(row[f"{role}.height"])):
                faults.append({"id": row["id"], "photo": role, "label": region.label, "box": fault})
    if faults:
        first = faults[0]
        said = (
            f"{len(faults)} of {boxes} boxes: the {first['photo']} photo of {first['id']} has one that {first['box']}"
        )
        return Finding(False, said, tuple(faults[:SHOWN]))
    return Finding(True, f"{boxes} boxes", figures={"boxes": float(boxes)})


def labels_of_boxes_are_known(dataset: Dataset) -> Finding:
    """Every box carries a label of the task."""
    counts = dict.fromkeys(dataset.labels, 0)
    unknown: list[dict[str, Any]] = []
    for row, role, regions in _regions(dataset):
        for region in regions:
            if region.label in counts:
                counts[region.label] += 1
            else:
                unknown.append({"id": row["id"], "photo": role, "label": region.label})
    rows = tuple(unknown[:SHOWN]) or tuple({"label": label, "boxes": n} for label, n in counts.items())
    if unknown:
        return Finding(False, f"{len(unknown)} boxes have an unknown label, e.g. '{unknown[0]['label']}'", rows)
    return Finding(True, ", ".join(f"{label} {n}" for label, n in counts.items() if n) or "no boxes", rows)


def every_split_has_boxes(dataset: Dataset) -> Finding:
    """Training, validation and test each hold photos with boxes."""
    counts = dict.fromkeys(SPLITS, 0)
    for row, _, regions in _regions(dataset):
        if row["split"] in counts:
            counts[row["split"]] += len(regions)
    empty = [split for split, n in counts.items() if not n]
    rows = tuple({"split": split, "boxes": n} for split, n in counts.items())
    if empty:
        return Finding(False, f"no boxes in {', '.join(empty)}: add photos or change the split fractions", rows)
    return Finding(True, ", ".join(f"{split} {n}" for split, n in counts.items()), rows)


def _regions(dataset: Dataset):
    """(row, role, regions in pixels of the original photo) of every photo that has boxes."""
    for row in dataset.manifest.to_dict("records"):
        for role in (FIRST, SECOND):
            stored = row.get(f"{role}.regions")
            if isinstance(stored, str) and stored:
                yield row, role, [Region(*values) for values in json.loads(stored)]
