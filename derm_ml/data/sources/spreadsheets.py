"""Tables that are no CSV files, as CSV text: Excel workbooks, and PH2's text with `||` between its columns.

Row k of the sheet is line k of the text, so that an error points at the row the user sees.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

from derm_ml.records import DataError

MAX_CELLS = 20_000_000  # ODIR-5K's sheet has 60,000
PIPES = "||"


def excel_as_csv(path: Path, data: bytes) -> str:
    """The first sheet of a workbook, without formulas. Raises `DataError` for one that cannot be read."""
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ModuleNotFoundError:
        raise DataError(
            f"{path}: reading Excel needs the package openpyxl; run `pip install 'derm-platform[formats]'`, or save "
            "the sheet as 'CSV UTF-8'"
        ) from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        text, cells = io.StringIO(), 0
        writer = csv.writer(text, lineterminator="\n")
        for row in sheet.iter_rows(values_only=True):
            cells += len(row)
            if cells > MAX_CELLS:
                raise DataError(f"{path}: more than {MAX_CELLS} cells; save the list alone as 'CSV UTF-8'")
            writer.writerow([_cell(value) for value in row])
        book.close()
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable Excel workbook; save the sheet as 'CSV UTF-8'") from error
    return text.getvalue()


def pipes_as_csv(text: str) -> str:
    """`|| IMD003 || || 0 ||` → `IMD003,,0`; lines that are no row stay as blank lines."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    width = 0
    for line in text.splitlines():
        if not line.strip().startswith(PIPES):
            out.write("\n")
            continue
        cells = [cell.strip() for cell in line.strip().removeprefix(PIPES).split(PIPES)]
        cells = cells[:-1] if cells and not cells[-1] else cells
        width = width or len(cells)
        writer.writerow((cells + [""] * width)[:width])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split())
