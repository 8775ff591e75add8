"""The report: an evaluation as one HTML page that needs no network and prints well.

The verdict comes first, then the result in words, then numbers, figures and tables. Images are embedded, styles are
inline, there is no script. `save` writes it beside what it shows; `derm_ml/promotion/report.py` gives it the checks of
a task, and is what the command line and Dagster call.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derm_ml.evaluation.alt_texts import alt_text
from derm_ml.evaluation.in_words import decides_by_rank, sentences
from derm_ml.evaluation.provenance_lines import measured_line, provenance_lines
from derm_ml.evaluation.recent import TABLE as RECENT_PATIENTS
from derm_ml.evaluation.verdicts import FAILED, PASSED, UNKNOWN, Conclusion, Verdict, ordered
from derm_ml.files import replacing_folder
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import headed, point_in_words
from derm_ml.pages.page import template
from derm_ml.recipe import dotted

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from derm_ml.evaluation.outcomes import RunOutcome
    from derm_ml.evaluation.record import Evaluation, Row
    from derm_ml.metrics.metric import Metric

PAGE = "report.html"
HEADLINES = 4  # metrics shown large: one row on a page of A4
HEATMAPS = ("confident_mistakes", "heatmaps_")  # figures whose second image is the first with its heatmap
LARGE = {"failures", "refusals"}  # whose image is two photos side by side
WIDE = 900  # a figure of more pixels across than this gets the page's whole width: in half of it text is unreadable
CARDS = "operating_points"  # this table is shown as cards: its rows are too wide for a page
MARKS = {PASSED: "✓", FAILED: "✗", UNKNOWN: "?"}


@dataclass(frozen=True)
class Opening:
    """What a page opens with and an evaluation does not know: the checks of its task, the operating point where the
    service decides, the settings in which its recipe differs from the default (name → default and own value; None: the
    default is not known), in words where it was measured if not on the model's own test split, and what came of it
    beside the champion (None: nobody asked)."""

    checks: tuple[Verdict, ...] = ()
    point: str = "balanced"
    changed: Mapping[str, tuple[Any, Any]] | None = None
    elsewhere: str = ""
    champion: RunOutcome | None = None


NOTHING = Opening()


def save(evaluation: Evaluation, folder: Path, opening: Opening = NOTHING) -> Path:
    """Write the evaluation and its page at `folder`, whole or not at all, and return `folder`.

    Raises `ValueError` if a table holds NaN: it must say None or why there is no number.
    """
    with replacing_folder(folder) as temporary:
        evaluation.write(temporary)
        (temporary / PAGE).write_text(render(evaluation, opening), encoding="utf-8")
    return folder


def render(evaluation: Evaluation, opening: Opening = NOTHING) -> str:
    """An evaluation as one self-contained HTML document. All text in it is escaped."""
    page = template(
        "derm_ml.evaluation",
        "report.html.j2",
        words=headed,
        point=lambda name: headed(point_in_words(name)),
        heading=heading,
        figure=three_decimals,
        cell=cell,
        whisker=whisker,
        numeric=numeric,
        whole=whole,
        metric_named=metric_named,
    )
    metrics = evaluation.metrics
    headlines = dict(list(metrics.items())[:HEADLINES])
    measured = {name: metric for name, metric in metrics.items() if metric.value is not None}
    terms = {found.term: found for name in metrics if (found := metric_named(name)).is_known}
    return page.render(
        e=evaluation,
        opening=opening,
        conclusion=Conclusion.of(opening.checks, opening.elsewhere) if opening.checks else None,
        checks=ordered(opening.checks),
        marks=MARKS,
        sentences=sentences(evaluation, opening.point),
        synthetic=evaluation.is_synthetic,
        counts=counts(evaluation.predictions),
        settings=dotted(evaluation.recipe),
        head=measured_line(evaluation),
        lines=provenance_lines(evaluation, opening.changed),
        headlines=list(headlines.items()),
        measured=measured,
        unmeasured={name: metric for name, metric in metrics.items() if name not in measured},
        terms=sorted(terms.items()),
        cards=evaluation.tables.get(CARDS, []),
        recent=[row for row in evaluation.tables.get(RECENT_PATIENTS, []) if row["metric"] in headlines],
        recent_caption=evaluation.captions.get(RECENT_PATIENTS, ""),
        chosen="" if decides_by_rank(evaluation) else opening.point,
        tables={name: rows for name, rows in evaluation.tables.items() if name != CARDS},
        cards_caption=evaluation.captions.get(CARDS, ""),
        alts={name: alt_text(name, evaluation) for name in evaluation.figures},
        heat=[name for name in evaluation.sheets if name.startswith(HEATMAPS)],
        large=LARGE,
        wide={name for name, png in evaluation.figures.items() if _png_width(png) > WIDE or name in evaluation.sheets},
    )


def counts(predictions: pd.DataFrame) -> dict[str, int]:
    """Label → its cases, of the labels whose truth the predictions hold."""
    start = "target."
    columns = [str(name) for name in predictions if str(name).startswith(start)]
    return {headed(name.removeprefix(start)): int((predictions[name].to_numpy(float) == 1).sum()) for name in columns}


def three_decimals(number: float | None) -> str:
    """Three decimals, which is what the intervals of such data support; a dash for what is undefined."""
    return "–" if number is None else f"{round(number, 3) + 0.0:.3f}"  # never -0.000


def heading(column: str) -> str:
    """A column of a table as its heading: `sensitivity_95` is the interval of the column before it."""
    base = column.removesuffix("_95")
    return headed(base) if base == column else f"{headed(base)}, 95 % interval"


def cell(value: Any, is_whole: bool = False) -> str:
    """A table's value as text; `is_whole` for a count."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if is_whole:
            return f"{value:.0f}"
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    return "–" if value is None or value == "" else str(value)


def whisker(metric: Metric, name: str) -> dict[str, float] | None:
    """Where interval, value and chance lie on the metric's own range, in per cent; None if it has no range or they are
    not on it."""
    of = metric_named(name)
    if metric.value is None or metric.low is None or metric.high is None or of.low is None or of.high is None:
        return None
    if not (of.low <= metric.low and metric.high <= of.high):
        return None
    least, width = of.low, of.high - of.low

    def place(value: float) -> float:
        return 100 * (value - least) / width

    found = {"left": place(metric.low), "width": 100 * (metric.high - metric.low) / width, "value": place(metric.value)}
    return found if of.chance is None else found | {"chance": place(of.chance)}


def numeric(rows: list[Row]) -> set[str]:
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


def whole(rows: list[Row]) -> set[str]:
    """The columns of counts that became floats, because one of them is missing: all whole, and not all 0 or 1."""
    found = set()
    for column in numeric(rows):
        values = [float(row[column]) for row in rows if row.get(column) is not None]
        if all(value.is_integer() for value in values) and any(abs(value) > 1 for value in values):
            found.add(column)
    return found


def _png_width(png: bytes) -> int:
    return struct.unpack(">I", png[16:20])[0]  # the first field of the header chunk
