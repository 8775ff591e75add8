"""Lists and tables as bytes: from a regular file, of a limited size, and quoted in an error only as far as it helps.

A list can be anything: a link to a system file, a named pipe, 10 GB, a value of a million characters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from derm_ml.data.sources.lists_read import note_list
from derm_ml.files import NotAFile, open_plain
from derm_ml.records import DataError

MAX_BYTES = 256 * 2**20  # a label list of a million rows has about 100 MB
_SHOWN = 60  # characters of a value, _FEW values of many: enough to find it, too little to copy a file into a log
_FEW = 8


def read_bytes(path: Path) -> bytes:
    """The content of a list. Raises `DataError` for one that is no file, cannot be read, or is too large."""
    note_list(path)
    try:
        with open_plain(path) as file:
            data = file.read(MAX_BYTES + 1)
    except NotAFile as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that it is there and may be read") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; split it")
    return data


def read_json(path: Path) -> Any:
    """The content of a JSON file; NaN and Infinity are no JSON. Raises `DataError` as `read_bytes`, and naming the
    line that is not readable."""
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply to be a list; export it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not readable JSON ({error.msg}); export it again") from error
    except ValueError as error:  # a number of thousands of digits, or none at all
        raise DataError(f"{path}: holds a number that cannot be read ({error}); export it again") from error


def quoted(value: object) -> str:
    """A value as an error quotes it: on one line, shortened, control characters visible."""
    text = value if isinstance(value, str) else repr(value)[: 2 * _SHOWN]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: 2 * _SHOWN])
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def some(values: list[str]) -> str:
    """The first of many values, for an error: `a, b, c, … (41 in all)`."""
    few = ", ".join(quoted(value) for value in values[:_FEW])
    return few if len(values) <= _FEW else f"{few}, … ({len(values)} in all)"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
