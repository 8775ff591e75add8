"""Models side by side on the same frozen cases: is one better than another, and by how much at least?

    derm compare malignancy_screening RUN RUN …     the first run is the reference

Read are the saved predictions of the runs' evaluations. Every difference has an interval from resampled patients that
both models share; areas under the ROC curve also have DeLong's. Works for every task: a classifier's metrics are
computed from its columns `p.<label>` and `target.<label>`; of any other task every column of the predictions that is
named like a metric and whose mean is that metric, and the ratios of columns the task declares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml import DermError
from derm_ml.evaluation.comparison_measures import Measure, measures_of
from derm_ml.evaluation.record import SUMMARY, Evaluation, EvaluationError
from derm_ml.formats import NO_DIFFERENCE
from derm_ml.metrics import classification
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.intervals import REACH, Difference, delong_difference, estimate, paired_difference
from derm_ml.model_folder import ModelFolder, bundle_named, evaluations, is_evaluation

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.task import Task


class ComparisonError(DermError, ValueError):
    """Runs that cannot be compared: other cases, another task, or nothing in common to measure."""


@dataclass(frozen=True)
class MeasuredModel:
    """One model's evaluation, under the name it has in the table."""

    name: str
    evaluation: Evaluation


@dataclass(frozen=True)
class MetricDifference:
    """One metric of one run against the reference: `difference` is run − reference.

    It is None, and `remark` says why, where the metric or its interval is undefined for one of the two.
    """

    metric: str
    run: str
    value: float | None
    reference: float | None
    difference: Difference | None
    delong: Difference | None = None
    remark: str = ""

    @property
    def lower_is_better(self) -> bool:
        return metric_named(self.metric).better == "lower"

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `no difference shown` where the interval holds 0, or `not evaluable`."""
        if self.difference is None:
            return "not evaluable"
        low, high = self.difference.low, self.difference.high
        if low <= 0 <= high:
            return NO_DIFFERENCE
        return "better" if (low > 0) != self.lower_is_better else "worse"

    def plain(self) -> dict[str, Any]:
        """As a row of a table."""
        difference, delong = self.difference, self.delong
        return {
            "metric": self.metric,
            "run": self.run,
            "n": difference.n if difference else None,
            "reference": self.reference,
            "value": self.value,
            "difference": difference.value if difference else None,
            "low": difference.low if difference else None,
            "high": difference.high if difference else None,
            "delong_low": delong.low if delong else None,
            "delong_high": delong.high if delong else None,
            "verdict": self.verdict,
            "remark": self.remark,
        }


@dataclass(frozen=True)
class Comparison:
    """Runs against the first of them on one frozen split; `rows` metric by metric, the primary metric first."""

    task: str
    title: str
    split: str
    split_hash: str
    n: int
    groups: int
    runs: tuple[MeasuredModel, ...]
    rows: tuple[MetricDifference, ...]

    @property
    def by_chance(self) -> str:
        """How many verdicts luck alone would give: the intervals are not widened for how many there are."""
        n = sum(row.difference is not None for row in self.rows)
        by_luck = f"about {n / 20:.1f} would look significant by chance"
        return f"With {n} comparisons, {by_luck} even if the models were identical."


def compare(runs: Sequence[MeasuredModel], task: Task) -> Comparison:
    """The runs against the first of them. Raises `ComparisonError` if they were not measured on the same cases."""
    if len(runs) < 2:
        raise ComparisonError("a comparison needs two runs at least")
    tables = _lined_up(runs)
    groups = tables[0]["group"].to_numpy(str)
    rows = [
        _measured(measure, run, runs[0], table, tables[0], groups)
        for measure in measures_of([run.evaluation for run in runs], tables, task)
        for run, table in zip(runs[1:], tables[1:], strict=True)
    ]
    if not any(row.difference for row in rows):
        raise ComparisonError("the runs have no metric that can be computed from their saved predictions")
    found = sorted(rows, key=lambda row: row.metric != task.primary_metric)
    first = runs[0].evaluation
    return Comparison(
        first.task,
        first.title,
        first.split,
        first.split_hash,
        first.n,
        len(np.unique(groups)),
        tuple(runs),
        tuple(found),
    )


def primary_difference(
    candidate: Evaluation, champion: Evaluation, task: Task, reach: float = REACH
) -> Difference | None:
    """candidate − champion of the task's primary metric; None where it cannot be computed from the predictions.

    The interval goes `reach` standard deviations to either side. Raises `ComparisonError` if they were not measured on
    the same cases.
    """
    runs = (MeasuredModel("champion", champion), MeasuredModel("candidate", candidate))
    base, table = _lined_up(runs)
    measures = measures_of((champion, candidate), (base, table), task)
    measure = next((m for m in measures if m.name == task.primary_metric), None)
    if measure is None:
        return None
    a, b = measure.own(table, candidate), measure.own(base, champion)
    try:
        return paired_difference(measure.statistic, base["group"].to_numpy(str), a, b, *measure.shared, reach=reach)
    except ValueError:  # undefined for one of the two, or in most resamples
        return None


def _lined_up(runs: Sequence[MeasuredModel]) -> list[pd.DataFrame]:
    """The predictions of each run, in the order of the first. Raises `ComparisonError` if the cases differ."""
    order = list(runs[0].evaluation.predictions["id"])
    for run in runs[1:]:
        _refuse_other_cases(runs[0], run)
    tables = [run.evaluation.predictions.set_index("id").loc[order] for run in runs]
    for run, table in zip(runs, tables, strict=True):
        _refuse_other_truth(runs[0].name, tables[0], run.name, table)
    return tables


def read_run(path: Path, split: str = "test") -> MeasuredModel:
    """A run by its model folder, its bundle, or its evaluation. Raises `ComparisonError` if it was not evaluated."""
    model = ModelFolder.holding(bundle_named(path))
    place = path if (path / SUMMARY).is_file() else model.evaluation(split)
    if not (place / SUMMARY).is_file():
        raise ComparisonError(f"{path} has no evaluation on {split}: run `derm evaluate` on it first")
    name = (ModelFolder.holding(place).path if is_evaluation(place) else place).name
    try:
        return MeasuredModel(name, Evaluation.load(place))
    except EvaluationError as error:
        raise ComparisonError(str(error)) from error


def others_of(
    current: MeasuredModel, models: Path, primary_metric: str, most: int, note: Callable[[str], object] = lambda _: None
) -> list[MeasuredModel]:
    """The other models below `models` that were measured on the same frozen split, the best of them, best first.

    One whose files cannot be read is left out, and `note` is called with a sentence: a neighbour's damage is not this
    model's.
    """
    found = []
    for place in evaluations(models):
        try:
            stored = json.loads((place / SUMMARY).read_text(encoding="utf-8"))
            if stored["split_hash"] != current.evaluation.split_hash:
                continue  # its predictions need not be read
            run = read_run(place)
        except (OSError, ValueError, KeyError, TypeError) as error:  # `ComparisonError` is a ValueError
            note(f"{place} cannot be compared with: {error}")
            continue
        if run.evaluation.model_version != current.evaluation.model_version:
            found.append(run)
    found.sort(key=lambda run: -(run.evaluation.numbers.get(primary_metric, -math.inf)))
    return found[:most]


def named_apart(runs: Sequence[MeasuredModel]) -> list[MeasuredModel]:
    """The runs with distinct names: the model's version is added where two folders are called the same."""
    names = [run.name for run in runs]
    twice = {name for name in names if names.count(name) > 1}
    return [
        MeasuredModel(f"{r.name} {r.evaluation.model_version[:6]}" if r.name in twice else r.name, r.evaluation)
        for r in runs
    ]


def _measured(
    measure: Measure,
    run: MeasuredModel,
    reference: MeasuredModel,
    table: pd.DataFrame,
    base: pd.DataFrame,
    groups: np.ndarray,
) -> MetricDifference:
    """The row of one metric of one run; without a difference and with a remark where there is none."""
    a, b = measure.own(table, run.evaluation), measure.own(base, reference.evaluation)
    values = estimate(measure.statistic, a, *measure.shared), estimate(measure.statistic, b, *measure.shared)
    if None in values:
        return MetricDifference(measure.name, run.name, *values, None, remark="undefined on these cases")
    try:
        difference = paired_difference(measure.statistic, groups, a, b, *measure.shared)
    except ValueError as error:  # one patient, or a class that most resamples miss
        return MetricDifference(measure.name, run.name, *values, None, remark=str(error))
    try:
        delong = delong_difference(*_of_known(a, b, measure.shared[0])) if measure.is_auc else None
    except ValueError as error:  # one positive: the bootstrap may still say something
        return MetricDifference(measure.name, run.name, *values, difference, remark=str(error))
    return MetricDifference(measure.name, run.name, *values, difference, delong)


def _of_known(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keep = classification.known(y)
    return a[keep], b[keep], y[keep]


def _refuse_other_cases(a: MeasuredModel, b: MeasuredModel) -> None:
    first, second = a.evaluation, b.evaluation
    facts: Mapping[str, tuple[str, str]] = {
        "task": (first.task, second.task),
        "split": (first.split, second.split),
        "split hash": (first.split_hash, second.split_hash),
    }
    for name, (mine, other) in facts.items():
        if mine != other:
            raise ComparisonError(
                f"{a.name} and {b.name} were not measured on the same cases: {name} {mine} against {other}. "
                "Evaluate both on one dataset"
            )
    if set(first.predictions["id"]) != set(second.predictions["id"]):
        raise ComparisonError(f"{a.name} and {b.name} have predictions of other cases: evaluate them again")


def _refuse_other_truth(first: str, base: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    columns = [c for c in base.columns if c.startswith("target.")]
    if set(columns) != {c for c in table.columns if c.startswith("target.")} or not base[columns].equals(
        table[columns]
    ):
        raise ComparisonError(f"{first} and {name} were measured against other labels: evaluate them on one dataset")
