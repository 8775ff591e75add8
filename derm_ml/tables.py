"""The CSV files the library writes, and reads again: any text in them stays text in a spreadsheet.

    write_table(path, table)          write_rows(file, columns, rows)
    read_table(path)                  read_rows(file)         as it was before it was made safe for a spreadsheet

A list that was delivered is not one of them: it is read by `sources` and copied as it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from derm_ml.escape import csv_cell, csv_original

if TYPE_CHECKING:
    import pandas as pd


def write_table(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """`table` without its index as CSV in UTF-8. Not atomic: give it a temporary path."""
    _mapped(table, csv_cell).to_csv(path, index=False, float_format=float_format)


def read_table(path: Path, dtype: Any = None) -> pd.DataFrame:
    """What `write_table` was given, up to the rounding of floats."""
    import pandas as pd  # a service has none

    return _mapped(pd.read_csv(path, dtype=dtype), csv_original)


def write_rows(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A head of `columns` and one line a row into an open file (newline="") or stdout."""
    writer = csv.writer(file)
    writer.writerow([csv_cell(name) for name in columns])
    writer.writerows([csv_cell(row[name]) for name in columns] for row in rows)


def read_rows(file: TextIO) -> Iterator[dict[str, str]]:
    """What `write_rows` was given, as text: column → cell. Without pandas, which a service does not have."""
    for row in csv.DictReader(file):
        yield {csv_original(name): csv_original(cell) for name, cell in row.items()}


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV, the last without the line feed that printing adds."""
    lines = io.StringIO()
    csv.writer(lines).writerows([csv_cell(cell) for cell in row] for row in rows)
    return lines.getvalue().removesuffix("\n")


def _mapped(table: pd.DataFrame, cell: Callable[[Any], Any]) -> pd.DataFrame:
    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    mapped = (
        table.assign(**{name: table[name].map(cell, na_action="ignore") for name in texts}) if len(texts) else table
    )
    return mapped.rename(columns=cell)
