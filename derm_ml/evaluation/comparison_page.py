"""A comparison as one HTML page: one sentence on top that says what came of it, then every difference and the cases on
which the models differ.

    page = comparison_page(comparison, task, figure, Basis(patients=30, point="recall_0.95"), dataset)
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derm_ml.evaluation.comparison_cases import Differing, DifferingCase, differing
from derm_ml.evaluation.in_words import BALANCED
from derm_ml.evaluation.outcomes import conclusion
from derm_ml.evaluation.provenance_lines import provenance_lines
from derm_ml.evaluation.report import counts, three_decimals
from derm_ml.images.thumbnail import thumbnail
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import signed_interval
from derm_ml.pages.page import template
from derm_ml.provenance import Made, when_and_by
from derm_ml.recipe import dotted

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.comparison import Comparison, MeasuredModel
    from derm_ml.task import Task

SHOWN = 12  # cases with their images
SIDE = 320  # pixels of an image of a case: sharp at the size the page shows it, some 15 kB
MASK = "mask"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a comparison rests on and does not know itself: the fewest patients that may decide between two models, and
    the operating point where the service decides."""

    patients: int = 0
    point: str = BALANCED


NO_BASIS = Basis()


def figure_text(comparison: Comparison) -> str:
    """What the figure shows, for those who do not see it."""
    parts = []
    for run in comparison.runs[1:]:
        rows = [row for row in comparison.rows if row.run == run.name and row.difference]
        better, worse = (sum(row.verdict == verdict for row in rows) for verdict in ("better", "worse"))
        rest = len(rows) - better - worse
        parts.append(f"{run.name} is better in {better} of {len(rows)} metrics, worse in {worse}, no difference is "
                     f"shown in {rest}")  # fmt: skip
    return f"Differences to {comparison.runs[0].name} with 95 % intervals: {'; '.join(parts)}."


def comparison_page(
    comparison: Comparison, task: Task, figure: bytes, basis: Basis = NO_BASIS, dataset: Dataset | None = None
) -> str:
    """One self-contained HTML document. All text in it is escaped.

    `dataset` is where the images of the cases lie; without it they are named only.
    """
    reference, runs = comparison.runs[0], comparison.runs[1:]
    rows = {run.name: [row for row in comparison.rows if row.run == run.name] for run in runs}
    apart = {run.name: differing(reference, run, task, basis.point) for run in runs}
    pictures = _pictures(dataset)
    terms = {of.term: of for row in comparison.rows if (of := metric_named(row.metric)).is_known}
    page = template(
        "derm_ml.evaluation",
        "comparison.html.j2",
        metric_named=metric_named,
        figure=three_decimals,
        signed=signed,
        ends=lambda difference: signed_interval(difference.low, difference.high),
    )
    return page.render(
        c=comparison,
        reference=reference,
        runs=runs,
        said={name: conclusion(of[0], reference.name, comparison.groups, basis.patients) for name, of in rows.items()},
        rows=rows,
        apart=apart,
        cases={name: list(_shown(found, pictures)) for name, found in apart.items()},
        counts=counts(reference.evaluation.predictions),
        changed={run.name: list(_changed(reference, run)) for run in runs},
        terms=sorted(terms.items()),
        picture=figure,
        picture_text=figure_text(comparison),
        lines=_lines(comparison),
        day=Made.now().day,
        made=[(run, run.evaluation.provenance.trained) for run in comparison.runs],
        synthetic=any(run.evaluation.is_synthetic for run in comparison.runs),
        has_images=dataset is not None,
    )


def _lines(comparison: Comparison) -> dict[str, str]:
    """Where the comparison comes from; its models stand in a table of their own."""
    reference, now = comparison.runs[0].evaluation, Made.now()
    of_all = provenance_lines(reference)
    names = ("Task", "Dataset md5", "Images of the dataset", "Split, hash", "Labels")
    return {name: of_all[name] for name in names} | {"Compared": when_and_by(now), "Compared on": now.machine}


def signed(number: float | None) -> str:
    """Three decimals with their sign; a dash for what is undefined."""
    return "–" if number is None else f"{round(number, 3) + 0.0:+.3f}"


def _changed(reference: MeasuredModel, run: MeasuredModel) -> Iterator[tuple[str, Any, Any]]:
    """The settings in which two recipes differ: name, the reference's value, the run's."""
    ours, theirs = dotted(reference.evaluation.recipe), dotted(run.evaluation.recipe)
    for name in dict.fromkeys((*ours, *theirs)):
        a, b = ours.get(name, "–"), theirs.get(name, "–")
        if a != b:
            yield name, a, b


def _shown(found: Differing, pictures: Callable[[str], list[str]]) -> Iterator[tuple[DifferingCase, list[str]]]:
    """The first cases with the addresses of their images."""
    for case in found.cases[:SHOWN]:
        yield case, pictures(case.id)


def _pictures(dataset: Dataset | None) -> Callable[[str], list[str]]:
    """Id → its images as addresses, a pair's both; none for a case that is not in the manifest, as a made pair."""
    if dataset is None:
        return lambda _: []
    rows = {str(row["id"]): row for row in dataset.manifest.to_dict("records")}
    roles = [str(name).removesuffix(".shard") for name in dataset.manifest if str(name).endswith(".shard")]

    def of(name: str) -> list[str]:
        row = rows.get(name)
        if row is None:
            return []
        return [_address(thumbnail(dataset.image(row, role), SIDE)) for role in _of_row(row, roles)]

    return of


def _of_row(row: dict[Any, Any], roles: Sequence[str]) -> list[str]:
    return [role for role in roles if role != MASK and isinstance(row[f"{role}.shard"], str) and row[f"{role}.shard"]]


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
