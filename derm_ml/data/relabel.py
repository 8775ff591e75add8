"""Labels that somebody has corrected, as one more delivery: it brings no image, only what is to count from now on.

    raw/batches/<list>-<content>/.intake              the record (JSON): author, date, each correction with its remark
    raw/batches/<list>-<content>/.corrections.csv     the list, to the byte

    delivery = relabel(task, Path("review.csv"), "A. Author", raw, settings)     # applied by the next `derm prepare`

No list and no image of the raw folder is touched. A later correction or delivery has the last word, and withdrawing the
delivery (`derm withdraw`) undoes it.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml.data.deliveries import Change, Correction, Delivery, deliveries, files_of
from derm_ml.data.sources.csv_table import TableRow, read_csv
from derm_ml.data.sources.text_files import quoted
from derm_ml.data.staging import only_one
from derm_ml.escape import csv_original
from derm_ml.files import replacing_folder
from derm_ml.records import DELIVERIES, DataError, Sample
from derm_ml.sentences import unknown

if TYPE_CHECKING:
    from derm_ml.task import PrepareSettings, Task

LIST = ".corrections.csv"
_NAME = re.compile(r"[^\w.-]+")
_LONGEST = 40  # characters of the list's name in that of the folder


def relabel(task: Task, corrections: Path, author: str, raw: Path, settings: PrepareSettings) -> Delivery:
    """Record the corrections of a reviewed list: columns `id`, `label` and, where given, `remark`; others are not read.

    An id is that of the dataset, a label one of the task's, several joined by `+`, or the task's word for none. A row
    whose label is empty was not decided and stays as it is. Nothing is recorded unless every row can be. Raises
    `DataError` naming file and line for an unknown id or label, an image without a label or with this one, a repeated
    id, or a list that decides nothing, and for a task whose truth is no label.
    """
    if not author.strip():
        raise DataError("a correction needs its author: give a name with --author")
    rows = read_csv(corrections, ("id", "label"), unique="id")
    with only_one(raw):
        reading = task.read(raw, settings)
        known = {sample.id: sample for sample in reading.samples}
        kinds = {role for sample in reading.samples for role in sample.files} | {
            role for sample in reading.samples for role in sample.regions
        }
        if "mask" in kinds or "first" in kinds or any(sample.regions for sample in reading.samples):
            raise DataError(
                f"{task.name} has masks or boxes, which no list of labels corrects: deliver the corrected files with "
                "`derm deliver`"
            )
        truth = _Truth(reading.labels or task.labels, task.negative, reading.samples)
        told = tuple(_correction(row, known, truth) for row in rows if row["label"])
        if not told:
            raise DataError(f"{corrections}: no row has a label; fill in the column label where the label is wrong")
        content = hashlib.md5(corrections.read_bytes()).hexdigest()
        stem = _NAME.sub("_", corrections.stem)[:_LONGEST].strip("._") or "corrections"
        delivery = Delivery(
            _free(raw, f"{DELIVERIES}/{stem}-{content[:8]}"),
            stem,
            content,
            max((d.number for d in deliveries(raw)), default=0) + 1,
            0,
            corrections=told,
            author=" ".join(author.split()),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )
        with replacing_folder(raw / delivery.folder) as folder:
            (folder / LIST).write_bytes(corrections.read_bytes())
            delivery.write_record(folder)
    return delivery


class _Truth:
    """What a label may be in a task, and the target it stands for."""

    def __init__(self, labels: Sequence[str], negative: str, samples: Sequence[Sample]) -> None:
        self.labels, self.negative = tuple(labels), negative
        labelled = [s for s in samples if s.labelled]
        self.exclusive = len(self.labels) > 1 and all(sorted(s.target.values())[-2:] == [0.0, 1.0] for s in labelled)

    @property
    def words(self) -> tuple[str, ...]:
        return self.labels if self.exclusive else (*self.labels, self.negative)

    def label(self, sample: Sample) -> str:
        """A sample's label in the task's words."""
        return self.negative if sample.label == "none" else sample.label

    def target(self, row: TableRow, sample: Sample) -> dict[str, float]:
        """The target of the label a row gives; what was not known of a sample, and is not said now, stays so."""
        said = row["label"].split("+")
        for word in said:
            if word not in self.words:
                problem = unknown("label", quoted(word), self.words, "labels are")
                raise row.error(problem, "correct it")
        if len(said) > 1 and (self.exclusive or self.negative in said):
            raise row.error(f"'{quoted(row['label'])}' names several labels of which an image has one", "keep one")
        chosen = {word for word in said if word != self.negative or word in self.labels}
        values = {name: sample.target.get(name, float("nan")) for name in self.labels}
        return {name: float(name in chosen) for name, value in values.items() if name in chosen or value == value}


def _correction(row: TableRow, known: dict[str, Sample], truth: _Truth) -> Correction:
    name = csv_original(row["id"])
    sample = known.get(name)
    if sample is None:
        raise row.error(f"there is no image '{quoted(name)}'", "give an id of the dataset, as `derm audit` lists it")
    if not sample.labelled:  # a label makes another image of it: one that is learned from and in a split
        raise row.error(f"'{quoted(name)}' has no label to correct", "deliver it with its label (`derm deliver`)")
    target = truth.target(row, sample)
    old, new = truth.label(sample), row["label"]
    if all(sample.target.get(label) == value for label, value in target.items()):
        raise row.error(f"'{quoted(name)}' is {quoted(old)} already", "remove the row, or leave its label empty")
    change = Change("label", old, new)
    return Correction(files_of(sample), (), (change,), row.line, target, csv_original(row.values.get("remark", "")))


def _free(raw: Path, folder: str) -> str:
    """A name that no delivery has: the same list may be applied, undone by another one, and applied again."""
    number, free = 1, folder
    while (raw / free).exists():
        number += 1
        free = f"{folder}.{number}"
    return free
