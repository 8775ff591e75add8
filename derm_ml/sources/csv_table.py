"""The one way a CSV file is read: strictly, so that a wrong file stops the line and says where.

Every error is a `DataError` of the form `file:line: what is wrong; what to do`, line 1 being the header.

Example:
    >>> rows = read_csv(Path("labels.csv"), required=("filename", "label"))      # doctest: +SKIP
    >>> rows[0]["label"], rows[0].line                                           # doctest: +SKIP
    ('nevus', 2)
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from derm_ml.records import DataError

MAX_BYTES = 256 * 2**20  # a label list of a million rows has about 100 MB
# what people write for "not known"; compared in lower case
UNKNOWN = frozenset({"", "unknown", "na", "n/a", "nan", "none", "null", "-", "?"})


@dataclass(frozen=True, slots=True)
class Row:
    """One data row: its values by lower-case column name, stripped, and the line it stands on."""

    path: Path
    line: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def get(self, column: str) -> str:
        """The value, or "" where there is no such column or the value is one of `UNKNOWN`."""
        value = self.values.get(column, "")
        return "" if value.lower() in UNKNOWN else value

    def number(self, column: str, low: float, high: float) -> float | None:
        """The value as a number in low..high, or None where it is not known."""
        text = self.get(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.error(
                f"{column} is '{text}', not a number from {low:g} to {high:g}", "correct it, or leave it empty"
            )
        return value

    def error(self, what: str, remedy: str) -> DataError:
        """A `DataError` that points at this row."""
        return DataError(f"{self.path}:{self.line}: {what}; {remedy}")


def read_csv(path: Path, required: Sequence[str], unique: str = "") -> list[Row]:
    """Read a comma-separated UTF-8 file (a byte-order mark is fine) with at least the `required` columns.

    `unique` names a column whose values must be present and differ. Raises `DataError` for any other encoding,
    missing or repeated columns, rows of the wrong length, a repeated or empty `unique` value, and an empty file.
    """
    rows = _rows(path, _text(path), required)
    if not rows:
        raise DataError(f"{path}:1: there is no row below the header; supply a list of images")
    seen: dict[str, int] = {}
    for row in rows if unique else ():
        value = row[unique]
        if not value:
            raise row.error(f"{unique} is empty", "fill it in, or remove the row")
        if value in seen:
            raise row.error(f"{unique} '{value}' stands on line {seen[value]} already", "remove one of the two rows")
        seen[value] = row.line
    return rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}:1: the file is larger than {MAX_BYTES // 2**20} MiB; split it")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a CSV file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: the file is not UTF-8; save it as 'CSV UTF-8'") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: the file holds binary zeros; save it as 'CSV UTF-8'")
    if not text.strip():
        raise DataError(f"{path}:1: the file is empty; supply the file as published")
    return text


def _rows(path: Path, text: str, required: Sequence[str]) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader)]
        _check_header(path, header, required)
        rows = []
        for values in reader:
            if not any(value.strip() for value in values):
                continue  # blank lines, as at the end of many files
            row = Row(path, reader.line_num, dict(zip(header, (v.strip() for v in values), strict=False)))
            if len(values) != len(header):
                raise row.error(f"{len(values)} values for {len(header)} columns", "quote values that hold a comma")
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; mend the quotation marks of this line") from error
    return rows


def _check_header(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        separator = next((s for s in (";", "\t") if len(header) == 1 and s in header[0]), "")
        remedy = "separate the columns by commas" if separator else f"the header has: {', '.join(header)}"
        raise DataError(f"{path}:1: missing column {', '.join(missing)}; {remedy}")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}:1: column {', '.join(repeated)} stands there twice; remove or rename one")
