"""Models side by side on the same frozen cases: is one better than another, and by how much at least?

    derm compare malignancy_screening RUN RUN …     the first run is the reference

Read are the saved predictions of the runs' evaluations. Every difference has an interval from resampled patients that
both models share; areas under the ROC curve also have DeLong's. Works for every task: a classifier's metrics are
reckoned from its columns `p.<label>` and `target.<label>`; of any other task every column of the predictions that is
named like a metric and whose mean is that metric, and the ratios of columns the task declares.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml import RESEARCH_USE, DermError
from derm_ml.evaluation import Evaluation, EvaluationError
from derm_ml.files import replacing_file, replacing_folder, write_json
from derm_ml.metrics import classification, screening
from derm_ml.metrics.calibration import brier
from derm_ml.metrics.intervals import Difference, delong_difference, estimate, paired_difference, ratio, weighted_mean

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.task import Task

RECALLS = (0.90, 0.95, 0.99)  # where specificities are compared: the high-recall end of the ROC curve
PRECISE = (0.99, 0.999)  # where precisions are: the original claims its gain at 99.9 %
LOWEST, HIGHEST = 0.90, 0.99  # "most at the high-recall end": the gain in specificity there less that here
LOWER_IS_BETTER = ("brier", "loss", "error", "distance", "hd95")
SAME = 1e-6  # a metric reckoned again from saved predictions may differ by this, else it is another metric


class ComparisonError(DermError, ValueError):
    """Runs that cannot be compared: other cases, another task, or nothing in common to measure."""


@dataclass(frozen=True)
class Run:
    """One model's evaluation, under the name it has in the table."""

    name: str
    evaluation: Evaluation


@dataclass(frozen=True)
class Row:
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
        return any(word in self.metric for word in LOWER_IS_BETTER)

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `not told apart` where the interval holds 0, or `not evaluable`."""
        if self.difference is None:
            return "not evaluable"
        low, high = self.difference.low, self.difference.high
        if low <= 0 <= high:
            return "not told apart"
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
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]

    @property
    def by_chance(self) -> str:
        """How many verdicts luck alone would give: the intervals are not widened for how many there are."""
        n = sum(row.difference is not None for row in self.rows)
        return f"Of {n} differences about {n / 20:.1f} are told apart by chance alone, were all models the same."

    def figure(self) -> bytes:
        """Every difference with its interval, as a PNG."""
        from derm_ml.figures.comparison import comparison_figure

        return comparison_figure(self.rows, self.runs[0].name, self.by_chance)

    def save(self, folder: Path) -> Path:
        """Write comparison.json, comparison.csv and comparison.png at `folder`, whole or not at all."""
        with replacing_folder(folder) as temporary:
            models = [
                {"name": run.name, "model_version": run.evaluation.model_version, "recipe": run.evaluation.recipe_name,
                 "settings": dict(run.evaluation.recipe)}
                for run in self.runs
            ]  # fmt: skip
            stored = {name: getattr(self, name) for name in ("task", "title", "split", "split_hash", "n", "groups")} | {
                "runs": models,
                "rows": [row.plain() for row in self.rows],  # without p, which does not know what less-is-better is
                "by_chance": self.by_chance,
                "note": RESEARCH_USE,
            }
            write_json(temporary / "comparison.json", stored)
            (temporary / "comparison.png").write_bytes(self.figure())
            rows = [row.plain() for row in self.rows]
            with replacing_file(temporary / "comparison.csv") as path, path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return folder


def compare(runs: Sequence[Run], task: Task) -> Comparison:
    """The runs against the first of them. Raises `ComparisonError` if they were not measured on the same cases."""
    if len(runs) < 2:
        raise ComparisonError("a comparison needs two runs at least")
    tables = _lined_up(runs)
    groups = tables[0]["group"].to_numpy(str)
    rows = [
        _measured(measure, run, runs[0], table, tables[0], groups)
        for measure in _measures([run.evaluation for run in runs], tables, task)
        for run, table in zip(runs[1:], tables[1:], strict=True)
    ]
    if not any(row.difference for row in rows):
        raise ComparisonError("the runs have no metric that can be reckoned from their saved predictions")
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


def primary_difference(candidate: Evaluation, champion: Evaluation, task: Task) -> Difference | None:
    """candidate − champion of the task's primary metric; None where it cannot be reckoned from the predictions.

    Raises `ComparisonError` if they were not measured on the same cases.
    """
    runs = (Run("champion", champion), Run("candidate", candidate))
    base, table = _lined_up(runs)
    measures = _measures((champion, candidate), (base, table), task)
    measure = next((m for m in measures if m.name == task.primary_metric), None)
    row = measure and _measured(measure, runs[1], runs[0], table, base, base["group"].to_numpy(str))
    return row.difference if row else None


def _lined_up(runs: Sequence[Run]) -> list[pd.DataFrame]:
    """The predictions of each run, in the order of the first. Raises `ComparisonError` if the cases differ."""
    order = list(runs[0].evaluation.predictions["id"])
    for run in runs[1:]:
        _refuse_other_cases(runs[0], run)
    tables = [run.evaluation.predictions.set_index("id").loc[order] for run in runs]
    for run, table in zip(runs, tables, strict=True):
        _refuse_other_truth(runs[0].name, tables[0], run.name, table)
    return tables


def read_run(path: Path, split: str = "test") -> Run:
    """A run by its model folder, its bundle, or its evaluation. Raises `ComparisonError` if it was not evaluated."""
    folder = path.parent if path.name == "bundle" else path
    place = folder if (folder / "evaluation.json").is_file() else folder / f"evaluation_{split}"
    if not (place / "evaluation.json").is_file():
        raise ComparisonError(f"{path} has no evaluation on {split}: run `derm evaluate` on it first")
    name = (place.parent if place.name.startswith("evaluation_") else place).name
    try:
        return Run(name, Evaluation.load(place))
    except EvaluationError as error:
        raise ComparisonError(str(error)) from error


def others_of(
    current: Run, models: Path, primary_metric: str, most: int, note: Callable[[str], object] = lambda _: None
) -> list[Run]:
    """The other models below `models` that were measured on the same frozen split, the best of them, best first.

    One whose files cannot be read is left out, and `note` is called with a sentence: a neighbour's damage is not this
    model's.
    """
    found = []
    for path in sorted(models.glob("*/evaluation_*/evaluation.json")):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["split_hash"] != current.evaluation.split_hash:
                continue  # its predictions need not be read
            run = read_run(path.parent)
        except (OSError, ValueError, KeyError, TypeError) as error:  # `ComparisonError` is a ValueError
            note(f"{path.parent} cannot be compared with: {error}")
            continue
        if run.evaluation.model_version != current.evaluation.model_version:
            found.append(run)
    found.sort(key=lambda run: -(run.evaluation.numbers.get(primary_metric, -math.inf)))
    return found[:most]


def named_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs with distinct names: the model's version is added where two folders are called the same."""
    names = [run.name for run in runs]
    twice = {name for name in names if names.count(name) > 1}
    return [
        Run(f"{r.name} {r.evaluation.model_version[:6]}" if r.name in twice else r.name, r.evaluation) for r in runs
    ]


@dataclass(frozen=True)
class _Measure:
    """A metric that can be reckoned from a table of predictions: `arrays(table, run)` feed `statistic`."""

    name: str
    statistic: Callable[..., np.ndarray]
    own: Callable[[pd.DataFrame, Evaluation], np.ndarray]  # what differs between the models, (N,) or (N, L)
    shared: tuple[np.ndarray, ...] = ()  # what does not: targets
    is_auc: bool = False


def _measures(evaluations: Sequence[Evaluation], tables: Sequence[pd.DataFrame], task: Task) -> Iterator[_Measure]:
    table = tables[0]
    labels = [label for label in evaluations[0].labels if f"p.{label}" in table and f"target.{label}" in table]
    scored = [label for label in labels if f"auc_{label}" in evaluations[0].metrics]
    if len(scored) > 1:
        targets = _columns(table, "target", scored)
        yield _Measure("auc_mean", classification.mean_auc, lambda t, _: _columns(t, "p", scored), (targets,))
    for label in scored:
        y = table[f"target.{label}"].to_numpy(np.float64)

        def scores(t: pd.DataFrame, _: Evaluation, label: str = label) -> np.ndarray:
            return t[f"p.{label}"].to_numpy(np.float64)

        yield _Measure(f"auc_{label}", classification.auc, scores, (y,), is_auc=True)
        yield _Measure(f"average_precision_{label}", classification.precision_area, scores, (y,))
        yield _Measure(f"partial_auc_{label}", screening.partial_auc, scores, (y,))
        positives = int((y == 1).sum())
        for recall in (r for r in RECALLS if _has_rank(positives, r)):
            name = f"specificity_{label}_at_recall_{recall:g}_of_the_curve"
            yield _Measure(name, screening.specificity_at_recall(recall), scores, (y,))
        for recall in (r for r in PRECISE if _has_rank(positives, r)):
            name = f"precision_{label}_at_recall_{recall:g}_of_the_curve"
            yield _Measure(name, screening.precision_at_recall(recall), scores, (y,))
        if _has_rank(positives, HIGHEST):
            name = f"specificity_{label}_at_recall_{HIGHEST:g}_less_that_at_{LOWEST:g}_of_the_curve"
            yield _Measure(name, _high_end, scores, (y,))
        yield from _decisions(evaluations, label, y)
    if labels:
        yield _Measure("brier", brier, lambda t, _: _columns(t, "p", labels), (_columns(table, "target", labels),))
    yield from _per_case(evaluations, tables)
    for name, (above, below) in task.ratios.items():
        measure = _Measure(name, _ratio, lambda t, _, above=above, below=below: _sums(t, above, below))
        if all(_is(e, name, estimate(_ratio, measure.own(t, e))) for e, t in zip(evaluations, tables, strict=True)):
            yield measure


def _has_rank(positives: int, recall: float) -> bool:
    """Whether one miss is allowed: with fewer than 1 / (1 − recall) positives the recall is that of missing none."""
    return positives >= round(1 / (1 - recall))


def _high_end(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Specificity at the highest recall less that at the lowest: its difference of two models is the difference of
    their gains, above 0 where one helps most at the high-recall end.
    """
    high, low = (screening.specificity_at_recall(r)(scores, targets, weights) for r in (HIGHEST, LOWEST))
    return high - low


def _decisions(evaluations: Sequence[Evaluation], label: str, y: np.ndarray) -> Iterator[_Measure]:
    """Recall and specificity at the operating points all runs have, each run at its own threshold."""
    thresholds = [_thresholds(evaluation, label) for evaluation in evaluations]
    for point in (p for p in thresholds[0] if all(p in own for own in thresholds)):

        def flagged(t: pd.DataFrame, run: Evaluation, point: str = point) -> np.ndarray:
            return t[f"p.{label}"].to_numpy(np.float64) >= _thresholds(run, label)[point]

        for word, statistic in (
            ("sensitivity", classification.sensitivity),
            ("specificity", classification.specificity),
        ):
            yield _Measure(f"{word}_{label}_at_{point}", statistic, flagged, (y,))


def _thresholds(evaluation: Evaluation, label: str) -> dict[str, float]:
    rows = evaluation.tables.get("operating_points", [])
    return {r["point"]: r["threshold"] for r in rows if r.get("label", label) == label and r["threshold"] is not None}


def _per_case(evaluations: Sequence[Evaluation], tables: Sequence[pd.DataFrame]) -> Iterator[_Measure]:
    """Columns named like a metric that hold its value of each case, in every run."""
    for name in evaluations[0].metrics:
        column = name if name in tables[0] else f"case.{name}"
        if all(
            column in t and _is_mean(e, name, t[column].to_numpy()) for e, t in zip(evaluations, tables, strict=True)
        ):
            yield _Measure(name, weighted_mean, lambda t, _, column=column: t[column].to_numpy(np.float64))


def _sums(table: pd.DataFrame, above: Mapping[str, float], below: Mapping[str, float]) -> np.ndarray:
    """(N, 2): what each case adds above and below the line of a ratio; one of unknown truth adds nothing."""
    parts = [sum(factor * table[c].to_numpy(np.float64) for c, factor in part.items()) for part in (above, below)]
    both = np.stack(parts, axis=1)
    return np.where(np.isnan(both).any(axis=1, keepdims=True), 0.0, both)


def _ratio(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return ratio(weights @ sums[:, 0], weights @ sums[:, 1])


def _is(evaluation: Evaluation, metric: str, value: float | None) -> bool:
    found = evaluation.metrics.get(metric)
    if found is None or found.value is None or value is None:
        return False
    return math.isclose(value, found.value, abs_tol=SAME)


def _is_mean(evaluation: Evaluation, metric: str, values: np.ndarray) -> bool:
    if values.dtype.kind not in "fiub":
        return False
    known = values.astype(float)[~np.isnan(values.astype(float))]
    return len(known) > 0 and _is(evaluation, metric, float(known.mean()))


def _measured(
    measure: _Measure, run: Run, reference: Run, table: pd.DataFrame, base: pd.DataFrame, groups: np.ndarray
) -> Row:
    """The row of one metric of one run; without a difference and with a remark where there is none."""
    a, b = measure.own(table, run.evaluation), measure.own(base, reference.evaluation)
    values = estimate(measure.statistic, a, *measure.shared), estimate(measure.statistic, b, *measure.shared)
    if None in values:
        return Row(measure.name, run.name, *values, None, remark="undefined on these cases")
    try:
        difference = paired_difference(measure.statistic, groups, a, b, *measure.shared)
    except ValueError as error:  # one patient, or a class that most resamples miss
        return Row(measure.name, run.name, *values, None, remark=str(error))
    try:
        delong = delong_difference(*_of_known(a, b, measure.shared[0])) if measure.is_auc else None
    except ValueError as error:  # one positive: the bootstrap may still say something
        return Row(measure.name, run.name, *values, difference, remark=str(error))
    return Row(measure.name, run.name, *values, difference, delong)


def _of_known(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keep = classification.known(y)
    return a[keep], b[keep], y[keep]


def _columns(table: pd.DataFrame, prefix: str, labels: Sequence[str]) -> np.ndarray:
    return table[[f"{prefix}.{label}" for label in labels]].to_numpy(np.float64)


def _refuse_other_cases(a: Run, b: Run) -> None:
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
