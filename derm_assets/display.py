"""What people look at in Dagster: pictures, numbers that are plotted over time, tables and text that come from data.

    metadata = {"curves": picture(png), **numbers({"auc_mean": 0.9}), "left_out": problem_table(problems)}

Dagster renders Markdown, and an image in it is fetched when the page opens: a file name must never get there. Markdown
is made in `picture` alone, of our own PNGs, and in `card`, whose writer escapes; everything else that names data goes
through `text`, `facts`, `table` or `described`.
"""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from derm_ml.cards.pages import as_markdown
from derm_ml.escape import markdown, visible, visible_values

if TYPE_CHECKING:
    from derm_ml.cards.card import Card
    from derm_ml.records import Problem

LARGEST = 190_000  # bytes of an event's picture; the UI grows slow above some 200 kB
_ROWS = 20  # rows of a table in the UI; the whole table is in a file


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG inside the metadata, shrunk until it is small enough to be stored with an event."""
    data = base64.b64encode(_small(png)).decode("ascii")
    return dg.MetadataValue.md(f"![](data:image/png;base64,{data})")


def card(shown: Card) -> dg.MarkdownMetadataValue:
    """A model card or data card; its own writer escapes what came from data."""
    return dg.MetadataValue.md(as_markdown(shown))


def pictures(figures: Mapping[str, bytes]) -> dict[str, dg.MarkdownMetadataValue]:
    return {name: picture(png) for name, png in figures.items()}


def numbers(figures: Mapping[str, float]) -> dict[str, dg.FloatMetadataValue]:
    """Bare floats, which the UI plots over time; one that is not finite is left out."""
    return {name: dg.MetadataValue.float(float(v)) for name, v in figures.items() if math.isfinite(v)}


def text(value: str) -> dg.TextMetadataValue:
    """Text that comes from data, on one line."""
    return dg.MetadataValue.text(visible(value))


def facts(value: Any) -> dg.JsonMetadataValue:
    """Names and values that come from data, as JSON."""
    return dg.MetadataValue.json(visible_values(value))


def say(context: dg.AssetExecutionContext, line: str, level: int = logging.INFO) -> None:
    """A line in the run's log; what data put into it cannot begin another line or act on a terminal."""
    context.log.log(level, visible(line))


def described(sentence: str) -> str:
    """A description of a check's result or an event that names data: the UI renders descriptions as Markdown."""
    return markdown(sentence)


def problem_table(problems: Sequence[Problem]) -> dg.TableMetadataValue:
    """The first of the files that were left out, with the reason."""
    return table([{"file": p.file, "row": p.row, "reason": p.reason} for p in problems])


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """The first rows of plain values, as a table the UI shows cell by cell and never renders; the last says what is
    missing of them. The columns are those of any row."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [{visible(str(name)): _value(row.get(name)) for name in columns} for row in rows[:_ROWS]]
    if len(rows) > _ROWS:
        shown.append({visible(str(name)): "" for name in columns} | {visible(str(columns[0])): _more(rows)})
    # one type for all: Dagster would take each column's from the first row
    schema = dg.TableSchema(columns=[dg.TableColumn(visible(str(name)), "string") for name in columns])
    return dg.MetadataValue.table([dg.TableRecord(row) for row in shown], schema)


def _more(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"… and {len(rows) - _ROWS} more"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else visible(str(value))


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
