"""What one row of a published table says an image shows, in the task's labels.

A lesion table has a diagnosis (a column, one of several 0/1 columns, the heaviest of weighted names) and often the
publisher's own word on malignancy. A retinal table has findings of 0 and 1, or grades.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from derm_ml.data.sources.csv_table import TableRow
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.published import ImageColumn, Published, Table
from derm_ml.data.sources.text_files import quoted

NO_LABEL = "without a label"
MALIGNANT, BENIGN, NEITHER = "malignant", "benign", "indeterminate"
NORMAL = "normal"
EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right"}
_YES = {"1", "1.0", "true", "x", "yes"}
_NO = {"0", "0.0", "false", "no"}


@dataclass(frozen=True, slots=True)
class LabelSaid:
    """A target (empty: unlabelled), or the name under which the image is left out; and attributes that go with it."""

    target: Mapping[str, float] = field(default_factory=dict)
    left_out: str = ""
    about: Mapping[str, str | float] = field(default_factory=dict)
    named: str = ""  # the publisher's name

    @property
    def reason(self) -> str:
        """Why the image takes no part, where it does not."""
        return "has no label" if self.left_out == NO_LABEL else f"its label {quoted(self.left_out)} is left out"


def label_of(layout: Published, table: Table, labels: LabelMap, row: TableRow, column: ImageColumn) -> LabelSaid:
    """What a row says of the image in one of its columns. Raises `DataError` naming the row."""
    if layout.about == "retina":
        about = _eye(table, row, column)
        return LabelSaid({} if table.unlabelled else _findings(table, row, column), about=about)
    if table.unlabelled:
        return LabelSaid(left_out=NO_LABEL)
    name, malignancy = _diagnosis(table, row), _malignancy(table, row)
    if not name and not malignancy:
        return LabelSaid(left_out=NO_LABEL)
    target = labels.target_at(
        row,
        name or malignancy,
        publisher_says=malignancy,
        open_ended=layout.open_ended,
    )
    said = name or malignancy
    return LabelSaid(left_out=said) if target is None else LabelSaid(target, about={"diagnosis": said}, named=said)


def _diagnosis(table: Table, row: TableRow) -> str:
    """The publisher's name of what the image shows; "" where the row does not say."""
    if table.one_hot:
        name = one_of(row, table.one_hot, table.crossed) or table.neither
    elif table.weighted:
        name = _heaviest(row, table.weighted.lower())
    else:
        name = _first(row, table.diagnosis)
    return table.names.get(name.lower(), name)


def _first(row: TableRow, columns: list[str]) -> str:
    return next((value for column in columns if (value := row.get(column.lower()))), "")


def one_of(row: TableRow, columns: list[str], crossed: bool = False) -> str:
    """The one column that is 1; "" if none is. Raises `DataError` for two at once, and for what is neither 0 nor 1.

    Of columns that are `crossed` one holds an x.
    """
    there = []
    for column in columns:
        value = _cross(row, column) if crossed else row.number(column.lower(), 0, 1)
        if value not in (0, 1):
            raise row.error(f"{column} is '{quoted(row[column.lower()])}'", "write 0 or 1")
        if value:
            there.append(column)
    if len(there) > 1:
        raise row.error(f"the image is {' and '.join(there)} at once", "set all but one of them to 0")
    return there[0] if there else ""


def _cross(row: TableRow, column: str) -> float:
    given = row.get(column.lower()).lower()
    if given and given not in _YES | _NO:
        raise row.error(f"{column} is '{quoted(row[column.lower()])}'", "write X, or leave it empty")
    return float(given in _YES)


def _heaviest(row: TableRow, column: str) -> str:
    """`{'Eczema': 0.67, 'Psoriasis': 0.33}` → `Eczema`; of equals the first."""
    text = row.get(column)
    if not text:
        return ""
    try:
        weights = ast.literal_eval(text)
        return max(weights, key=weights.get) if weights else ""
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        raise row.error(
            f"{column} is '{quoted(text)}', not names with weights", "supply the file as published"
        ) from error


def _malignancy(table: Table, row: TableRow) -> str:
    given = _first(row, table.malignancy).lower()
    if not given:
        return ""
    word = given.rpartition("/")[2].strip()  # `indeterminate/malignant`
    return MALIGNANT if word in table.malignant else BENIGN if word in table.benign else NEITHER


def _eye(table: Table, row: TableRow, column: ImageColumn) -> dict[str, str | float]:
    given = (
        column.eye
        or (row.get(table.eye.lower()).lower() if table.eye else "")
        or said_by_name(table, row, column, "eye")
    )
    if given and given not in EYES:
        raise row.error(f"{table.eye} is '{quoted(given)}'", "write left or right, or leave it empty")
    return {"eye": EYES[given]} if given else {}


def said_by_name(table: Table, row: TableRow, column: ImageColumn, what: str) -> str:
    """What the name of an image says by itself: `10_left` is patient 10, left eye."""
    found = re.fullmatch(table.name, Path(row.get(column.column.lower())).stem) if table.name else None
    return found[what] if found else ""


def _findings(table: Table, row: TableRow, column: ImageColumn) -> dict[str, float]:
    """Finding → 1, 0, or NaN where the row does not say."""
    target: dict[str, float] = {}
    for name, finding in table.findings.items():
        value = _flag(row, name.lower())
        target[finding] = max(target.get(finding, -math.inf), value) if value == value else target.get(finding, value)
    for name, finding in table.absent.items():
        target[finding] = 1 - _flag(row, name.lower())
    for name, finding in table.grades.items():
        grade = row.number(name.lower(), 0, 10) if name.lower() in row.values else None
        target[finding] = math.nan if grade is None else float(grade >= 1)
    if table.grades and NORMAL not in target and any(value == 1 for value in target.values()):
        target[NORMAL] = 0.0
    if column.keywords:
        target = _of_this_eye(target, table, row, column)
    return target


def _flag(row: TableRow, column: str) -> float:
    given = row.get(column).lower()
    if given in _YES or given in _NO:
        return float(given in _YES)
    if not given:
        return math.nan
    raise row.error(f"{column} is '{quoted(row[column])}'", "write 1, 0, or leave it empty if it is not known")


def _of_this_eye(target: Mapping[str, float], table: Table, row: TableRow, column: ImageColumn) -> dict[str, float]:
    """The findings of a patient that this eye's keywords name; one that they do not name is absent here, unless the
    other eye's do not name it either: then nobody has said whose it is."""
    eyes = [c for c in table.image if isinstance(c, ImageColumn)]
    said = {c.column: _named(row.get(c.keywords.lower()).lower(), table) for c in eyes}
    own, all_eyes = said[column.column], set().union(*said.values())
    if NORMAL in own:  # the patient's column is 1 only where both eyes are normal
        target = {**target, NORMAL: 1.0}
    return {
        finding: float(finding in own) if value == 1 and finding in all_eyes else math.nan if value == 1 else value
        for finding, value in target.items()
    }


def _named(text: str, table: Table) -> set[str]:
    return {finding for finding, words in table.keywords.items() if any(word in text for word in words)}
