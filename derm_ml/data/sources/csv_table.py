"""The one way a CSV file is read: strictly, so that a wrong file stops the line and says where.

Every error is a `DataError` of the form `file:line: what is wrong; what to do`, line 1 being the header.

Example:
    >>> rows = read_csv(Path("labels.csv"), required=("filename", "label"))
    >>> rows[0]["label"], rows[0].line
    ('nevus', 2)
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from derm_ml.data.sources.lists_read import note_list
from derm_ml.data.sources.renaming import renamed
from derm_ml.data.sources.spreadsheets import PIPES, excel_as_csv, pipes_as_csv
from derm_ml.data.sources.text_files import quoted, read_bytes, some
from derm_ml.files import open_plain
from derm_ml.records import DataError

EXCEL = (".xlsx", ".xlsm")
_HEADER = 65_536  # characters in which the header of a list ends
MAX_COLUMNS = 4_096  # a table of findings has some hundred
MAX_ROW = 2**20  # characters; a row that is longer is an unclosed quotation mark, or no list
# what people write for "not known"; compared in lower case
UNKNOWN = frozenset({"", "unknown", "na", "n/a", "nan", "none", "null", "-", "?"})


@dataclass(frozen=True, slots=True)
class TableRow:
    """One data row: its values by lower-case column name, stripped, and the line it stands on."""

    path: Path
    line: int
    values: Mapping[str, str]
    used: set[str] = field(default_factory=set, compare=False, repr=False)  # of its list: the columns asked for

    def __getitem__(self, column: str) -> str:
        self.used.add(column)
        return self.values[column]

    def get(self, column: str) -> str:
        """The value, or "" where there is no such column or the value is one of `UNKNOWN`."""
        self.used.add(column)
        value = self.values.get(column, "")
        return "" if value.lower() in UNKNOWN else value

    def number(self, column: str, low: float, high: float) -> float | None:
        """The value as a number in low..high, or None where it is not known."""
        text = self.get(column)
        if not text:
            return None
        try:
            value = float(text) if "_" not in text else math.nan  # Python would read 1_0 as ten
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.error(
                f"{column} is '{quoted(text)}', not a number from {low:g} to {high:g}", "correct it, or leave it empty"
            )
        return value

    def error(self, what: str, remedy: str) -> DataError:
        """A `DataError` that points at this row."""
        return DataError(f"{self.path}:{self.line}: {what}; {remedy}")


def read_csv(
    path: Path,
    required: Sequence[str],
    unique: str = "",
    *,
    any_separator: bool = False,
    header: Sequence[str] = (),
    titled: bool = False,
) -> list[TableRow]:
    """Read a comma-separated UTF-8 file (a byte-order mark is fine) or an Excel sheet with the `required` columns.

    `unique` names a column whose values must be present and differ. A list as published may have `any_separator` (a
    comma, a tab, a semicolon) and no header line: then `header` names its columns. One that is `titled` has other lines
    above its header, which is the first that holds all `required` columns. Raises `DataError` for any other
    encoding, missing or repeated columns, rows of the wrong length, a repeated or empty `unique` value, an empty file.
    """
    text = _text(path)
    separator = _separator(text) if any_separator else ","
    rows = _rows(path, _without_title(text, required, separator) if titled else text, required, separator, header)
    if not rows:
        raise DataError(f"{path}:1: there is no row below the header; supply a list of images")
    seen: dict[str, int] = {}
    for row in rows if unique else ():
        value = row[unique]
        if not value:
            raise row.error(f"{unique} is empty", "fill it in, or remove the row")
        if value in seen:
            raise row.error(
                f"{unique} '{quoted(value)}' stands on line {seen[value]} already", "remove one of the two rows"
            )
        seen[value] = row.line
    return rows


def columns_of(path: Path) -> set[str]:
    """The columns of a list, in lower case; those of no readable list are none."""
    if path.suffix.lower() in EXCEL:
        lines = excel_as_csv(path, read_bytes(path)).splitlines()[:1]
    else:
        with open_plain(path) as file:
            text = file.read(_HEADER).decode("utf-8-sig", "replace")
        lines = (pipes_as_csv(text) if text.lstrip().startswith(PIPES) else text).splitlines()
    first = next((line for line in lines if line.strip()), "")
    return {name.strip().strip('"').lower() for name in first.split(_separator(first))}


def _separator(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return next((s for s in (",", "\t", ";") if s in first), ",")


def _text(path: Path) -> str:
    data = read_bytes(path)
    if path.suffix.lower() in EXCEL:
        return excel_as_csv(path, data)
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
    return pipes_as_csv(text) if text.lstrip().startswith(PIPES) else text


def _rows(path: Path, text: str, required: Sequence[str], separator: str, header: Sequence[str]) -> list[TableRow]:
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True, delimiter=separator)
    try:
        header = header or [name.strip().lower() for name in _first(reader)]
        _check_header(path, header, required)
        used = note_list(path, header).used
        rows = []
        for values in reader:
            lines.row_ends()
            if not any(value.strip() for value in values):
                continue  # blank lines, as at the end of many files
            row = TableRow(path, reader.line_num, dict(zip(header, (v.strip() for v in values), strict=False)), used)
            if len(values) != len(header):
                raise row.error(f"{len(values)} values for {len(header)} columns", "quote values that hold a comma")
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; fix the quotation marks of this line") from error
    return rows


def _first(reader: Iterator[list[str]]) -> list[str]:
    """The header: the first line that is not blank."""
    return next(values for values in reader if any(value.strip() for value in values))


def _without_title(text: str, required: Sequence[str], separator: str) -> str:
    """The text with blank lines for those above its header, so that a row keeps its number; as it is without one."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        cells = {name.strip().lower() for values in csv.reader([line], delimiter=separator) for name in values}
        if cells.issuperset(required):
            return "\n" * number + "".join(lines[number:])
    return text


class _Lines:
    """The lines of a text for `csv.reader`, which would gather a row of 256 MiB without a word.

    Raises `csv.Error` for a row longer than `MAX_ROW`.
    """

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._of_this_row = 0

    def row_ends(self) -> None:
        self._of_this_row = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._lines.readline(MAX_ROW + 1)
        if not line:
            raise StopIteration
        self._of_this_row += len(line)
        if self._of_this_row > MAX_ROW:
            raise csv.Error(f"a row of more than {MAX_ROW} characters")
        return line


def _check_header(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{path}:1: {len(header)} columns; a list has at most {MAX_COLUMNS}: supply the file as published"
        )
    missing = [name for name in required if name not in header]
    if missing:
        separator = next((s for s in (";", "\t") if len(header) == 1 and s in header[0]), "")
        remedy = "separate the columns by commas" if separator else f"the header has: {some(list(header))}"
        if change := renamed(header, required):
            remedy = f"{change} in this line"
        raise DataError(f"{path}:1: missing column {', '.join(missing)}; {remedy}")
    # columns without a name are what spreadsheets append and pandas calls its index
    repeated = sorted(name for name, times in Counter(header).items() if times > 1 and name)
    if repeated:
        raise DataError(f"{path}:1: column {some(repeated)} is duplicated; remove or rename one")
