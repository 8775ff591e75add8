"""What people look at in Dagster: pictures, numbers that are plotted over time, links.

metadata = {"curves": picture(png), **numbers({"auc_mean": 0.9}), "run": link(url)}
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from derm_ml.records import Problem

LARGEST = 190_000  # bytes of an event's picture; the UI grows slow above some 200 kB
_ROWS = 20  # rows of a table in the UI; the whole table is in a file


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG inside the metadata, shrunk until it is small enough to be stored with an event."""
    data = base64.b64encode(_small(png)).decode("ascii")
    return dg.MetadataValue.md(f"![](data:image/png;base64,{data})")


def pictures(figures: Mapping[str, bytes]) -> dict[str, dg.MarkdownMetadataValue]:
    return {name: picture(png) for name, png in figures.items()}


def numbers(figures: Mapping[str, float]) -> dict[str, dg.FloatMetadataValue]:
    """Bare floats, which the UI plots over time; one that is not finite is left out."""
    return {name: dg.MetadataValue.float(float(v)) for name, v in figures.items() if math.isfinite(v)}


def problem_table(problems: Sequence[Problem]) -> dg.MarkdownMetadataValue:
    """The first of the files that were left out, with the reason."""
    rows = [f"| {_cell(p.file)} | {p.row or ''} | {_cell(p.reason)} |" for p in problems[:_ROWS]]
    more = [f"\n… and {len(problems) - _ROWS} more"] if len(problems) > _ROWS else []
    return dg.MetadataValue.md("\n".join(["| file | row | reason |", "|---|---|---|", *rows, *more]))


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Rows of plain values; all have the columns of the first."""
    columns = list(rows[0]) if rows else []
    lines = [f"| {' | '.join(_cell(_text(row[name])) for name in columns)} |" for row in rows]
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return dg.MetadataValue.md("\n".join([*head, *lines]))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _small(png: bytes) -> bytes:
    """The picture with 256 colours, then at smaller and smaller sizes, until base64 of it is below `LARGEST`."""
    if len(png) * 4 / 3 < LARGEST:
        return png
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        full = opened.convert("RGB")
    scale = 1.0
    while True:
        size = (max(1, round(full.width * scale)), max(1, round(full.height * scale)))
        shrunk = full.resize(size, Image.Resampling.LANCZOS).quantize(256)
        buffer = io.BytesIO()
        shrunk.save(buffer, "PNG", optimize=True)
        if len(buffer.getvalue()) * 4 / 3 < LARGEST:
            return buffer.getvalue()
        scale *= 0.8
