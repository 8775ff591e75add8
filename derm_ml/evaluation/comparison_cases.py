"""The cases on which two compared models differ: what a person looks at before believing a difference.

found = differing(comparison.runs[0], comparison.runs[1], task, "recall_0.95")
found.sentence      'The two models answer differently on 14 of 48 cases: …'
found.cases         the clearest of them first
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from derm_ml.evaluation.comparison_measures import sums_of, thresholds_of
from derm_ml.evaluation.in_words import BALANCED, decides_by_rank
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import in_a_sentence, readable

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.evaluation.comparison import MeasuredModel
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.task import Task

NOTABLE = 0.05  # of a score of each case: two outlines that differ by less look alike
REFERENCE, RUN, NEITHER, UNKNOWN = "reference", "run", "neither", "unknown"  # who of the two is right


@dataclass(frozen=True, slots=True)
class DifferingCase:
    """One case: what is true and what each of the two says, in words; `right` is who of them is; `size` in 0..1 says
    how far they are apart."""

    id: str
    truth: str
    reference: str
    run: str
    right: str
    size: float


@dataclass(frozen=True, slots=True)
class Differing:
    """The cases on which a run differs from the reference, the clearest first, and all of them in one sentence."""

    sentence: str
    cases: tuple[DifferingCase, ...] = ()


def differing(reference: MeasuredModel, run: MeasuredModel, task: Task, point: str = BALANCED) -> Differing:
    """Where the answers differ; of a model that answers no labels, where its score of a case does.

    `point` is the operating point at which the service decides, each model at its own threshold.
    """
    base = reference.evaluation.predictions.set_index("id")
    table = run.evaluation.predictions.set_index("id").loc[base.index]
    labels = [name for name in reference.evaluation.labels if {f"p.{name}", f"target.{name}"} <= set(base.columns)]
    if labels:
        found = list(_answers(reference.evaluation, run.evaluation, base, table, labels, point))
        return Differing(_in_one_sentence(found, len(base), reference.name, run.name), _clearest(found))
    scores = [_score_of_each(one, task) for one in (base, table)]
    if scores[0] is None or scores[1] is None:
        return Differing("What each model says of each case is not stored, so no single case can be compared.")
    term, found = metric_named(task.primary_metric).term, []
    for name, a, b in zip(base.index.astype(str), scores[0], scores[1], strict=True):
        if abs(b - a) > NOTABLE:  # not where one is undefined
            better = (b > a) == (metric_named(task.primary_metric).better == "higher")
            words = (f"{term} {a:.3f}", f"{term} {b:.3f}")
            found.append(DifferingCase(name, "", *words, RUN if better else REFERENCE, abs(b - a)))
    return Differing(_of_scores(found, len(base), term, reference.name, run.name), _clearest(found))


def _clearest(found: list[DifferingCase]) -> tuple[DifferingCase, ...]:
    return tuple(sorted(found, key=lambda case: (-case.size, case.id)))


def _answers(
    first: Evaluation, second: Evaluation, base: pd.DataFrame, table: pd.DataFrame, labels: list[str], point: str
) -> list[DifferingCase]:
    """The cases to which the two give different answers: the most likely class, or the labels above the threshold."""
    targets = base[[f"target.{name}" for name in labels]].to_numpy(float)
    scores = [one[[f"p.{name}" for name in labels]].to_numpy(float) for one in (base, table)]
    if decides_by_rank(first) and decides_by_rank(second):
        answers = [np.eye(len(labels), dtype=bool)[p.argmax(axis=1)] for p in scores]
    else:
        limits = [[_threshold(one, name, point) for name in labels] for one in (first, second)]
        answers = [p >= np.array(limit) for p, limit in zip(scores, limits, strict=True)]
    negative = _negative(first, labels)
    found = []
    for k in np.flatnonzero((answers[0] != answers[1]).any(axis=1)):
        true, known = targets[k] == 1, np.isfinite(targets[k])
        said = [_said(answer[k], p[k], labels, negative) for answer, p in zip(answers, scores, strict=True)]
        fits = [bool((answer[k] == true)[known].all()) for answer in answers]
        who = UNKNOWN if not known.any() else RUN if fits[1] and not fits[0] else REFERENCE if fits[0] else NEITHER
        size = float(np.abs(scores[1][k] - scores[0][k]).max())
        truth = _named(true, labels, negative) if known.any() else "unknown"
        found.append(DifferingCase(str(base.index[k]), truth, said[0], said[1], who, size))
    return found


def _threshold(evaluation: Evaluation, label: str, point: str) -> float:
    """Where the model decides the label: at the point, else at the balanced one, else at 0.5."""
    own = thresholds_of(evaluation, label)
    return own.get(point, own.get(BALANCED, 0.5))


def _negative(evaluation: Evaluation, labels: list[str]) -> str:
    """What a case without any label is called."""
    rows = evaluation.tables.get("confusion_matrix", [])
    return readable(str(rows[0]["truth"])) if len(labels) == 1 and rows else "none of the labels"


def _named(which: np.ndarray, labels: list[str], negative: str) -> str:
    return ", ".join(readable(name) for name, yes in zip(labels, which, strict=True) if yes) or negative


def _said(answer: np.ndarray, p: np.ndarray, labels: list[str], negative: str) -> str:
    """The answer with the probability of what it names, or of the only label there is."""
    if not answer.any():
        return negative if len(labels) > 1 else f"{negative} ({readable(labels[0])} {100 * p[0]:.0f} %)"
    return ", ".join(
        f"{readable(name)} {100 * value:.0f} %" for name, value, yes in zip(labels, p, answer, strict=True) if yes
    )


def _in_one_sentence(found: list[DifferingCase], n: int, reference: str, run: str) -> str:
    if not found:
        return f"The two models give the same answer to all {n} cases."
    counts = {who: sum(case.right == who for case in found) for who in (RUN, REFERENCE, NEITHER, UNKNOWN)}
    parts = [
        f"{run} alone is right in {counts[RUN]}",
        f"{reference} alone in {counts[REFERENCE]}",
        *([f"neither in {counts[NEITHER]}"] if counts[NEITHER] else []),
        *([f"{counts[UNKNOWN]} have no known truth"] if counts[UNKNOWN] else []),
    ]
    return f"The two models answer differently on {len(found)} of {n} cases: {', '.join(parts)}."


def _of_scores(found: list[DifferingCase], n: int, term: str, reference: str, run: str) -> str:
    start = f"The {in_a_sentence(term)} of a case differs by more than {NOTABLE:g}"
    if not found:
        return f"{start} on none of the {n} cases."
    better = sum(case.right == RUN for case in found)
    return f"{start} on {len(found)} of {n} cases: {run} is better on {better}, {reference} on {len(found) - better}."


def _score_of_each(table: pd.DataFrame, task: Task) -> np.ndarray | None:
    """(N,) the primary metric of each case, NaN where it is undefined; None where it has none for a case."""
    for column in (task.primary_metric, f"case.{task.primary_metric}"):
        if column in table:
            return table[column].to_numpy(float)
    above, below = task.ratios.get(task.primary_metric, ({}, {}))
    if not above or not {*above, *below} <= set(table.columns):
        return None
    sums = sums_of(table, above, below)
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)
