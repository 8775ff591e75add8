"""The report: an evaluation as one HTML page that needs no network and prints well.

Images are embedded, styles are inline, there is no script. `save` writes it beside what it shows.
"""

from __future__ import annotations

import base64
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

from derm_ml import RESEARCH_USE
from derm_ml.files import replacing_folder
from derm_ml.metrics.words import headed
from derm_ml.recipe import dotted

if TYPE_CHECKING:
    from pathlib import Path

    import jinja2

    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric

PAGE = "report.html"
HEADLINES = 4  # metrics shown large: one row on a page of A4
WIDE = 900  # a figure of more pixels across than this gets the page's whole width: in half of it text is unreadable


def save(evaluation: Evaluation, folder: Path) -> Path:
    """Write the evaluation and its page at `folder`, whole or not at all, and return `folder`.

    Raises `ValueError` if a table holds NaN: it must say None or why there is no number.
    """
    with replacing_folder(folder) as temporary:
        evaluation.write(temporary)
        (temporary / PAGE).write_text(render(evaluation), encoding="utf-8")
    return folder


def render(evaluation: Evaluation) -> str:
    """An evaluation as one self-contained HTML document. All text in it is escaped."""
    return _template().render(
        e=evaluation,
        settings=dotted(evaluation.recipe),
        research_use=RESEARCH_USE,
        headlines=list(evaluation.metrics.items())[:HEADLINES],
        images={name: base64.b64encode(png).decode("ascii") for name, png in evaluation.figures.items()},
        wide={name for name, png in evaluation.figures.items() if _png_width(png) > WIDE},
    )


@cache
def _template() -> jinja2.Template:
    import jinja2  # a code location that only lists evaluations does not pay for it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("derm_ml.evaluation.record", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "words": headed,
        "figure": three_decimals,
        "cell": cell,
        "whisker": whisker,
        "numeric": numeric,
    }
    return environment.get_template("report.html.j2")


def three_decimals(number: float | None) -> str:
    """Three decimals, which is what the intervals of such data support; a dash for what is undefined."""
    return "–" if number is None else f"{number:.3f}"


def cell(value: Any) -> str:
    """A table's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    return "–" if value is None else str(value)


def whisker(metric: Metric) -> dict[str, float] | None:
    """Where the interval and the value lie on a track from 0 to 1, in per cent; None if they are not on it."""
    if metric.value is None or metric.low is None or metric.high is None:
        return None
    if not (metric.low >= 0 and metric.high <= 1):
        return None
    return {"left": 100 * metric.low, "width": 100 * (metric.high - metric.low), "value": 100 * metric.value}


def numeric(rows: list[dict[str, Any]]) -> set[str]:
    """The columns that hold numbers (or nothing) in every row: they are aligned to the right."""

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    columns = {column for row in rows for column in row}
    return {
        column
        for column in columns
        if any(is_number(row.get(column)) for row in rows)
        and all(row.get(column) is None or is_number(row[column]) for row in rows)
    }


def _png_width(png: bytes) -> int:
    return struct.unpack(">I", png[16:20])[0]  # the first field of the header chunk
