"""The patients who came with later deliveries, beside the frozen test split: does the model still hold for them?

    test, recent = beside_recent(task, predictor, dataset, evaluation)     recent None: nobody was put aside yet
    recent_in_words(test, "auc_mean")                                      one sentence; empty without recent patients

The test split never moves, so scores on it compare over years; what has changed since shows here alone. The figures
inform: no check and no promotion rests on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from derm_ml.bundles.bundle import BundleError
from derm_ml.data.learned_ids import LearnedIds
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.metric import Metric
from derm_ml.records import RECENT

if TYPE_CHECKING:
    from derm_ml.contract import Predictor
    from derm_ml.data.dataset import Dataset
    from derm_ml.model_folder import ModelFolder
    from derm_ml.task import Task

TABLE = "recent_patients"


def beside_recent(
    task: Task,
    predictor: Predictor,
    dataset: Dataset,
    test: Evaluation,
    model_folder: ModelFolder | None = None,
) -> tuple[Evaluation, Evaluation | None]:
    """The evaluation on the test split with a table of what the model reaches on recent patients, and that evaluation.

    `model_folder`: where predictions are kept; None: every case is predicted afresh.
    """
    if dataset.split(RECENT).empty:
        return test, None
    recent = task.evaluate(predictor, dataset, RECENT, model_folder)
    try:
        known = LearnedIds.of(predictor.bundle).in_split(dataset, RECENT)
    except BundleError as error:
        known = [f"Whether the model learned from recent patients cannot be told: {error}"]
    return _with_table(test, recent, known), replace(recent, notes=(*known, *recent.notes))


def _with_table(test: Evaluation, recent: Evaluation, known: Sequence[str]) -> Evaluation:
    nothing = "" if known else " Nothing was learned from them."
    caption = (
        f"{recent.n} cases of {recent.n_patients} patients who came with later deliveries and were put aside when they "
        f"arrived (split {recent.split_hash}).{nothing} No promotion rests on them. They are other cases than those of "
        "the test split: a difference may come from the cases as well as from the time."
    )
    shared = [name for name in recent.metrics if name in test.metrics]
    rows = [_row(name, test.metrics[name], recent.metrics[name], recent) for name in shared]
    return replace(
        test,
        tables={TABLE: rows, **test.tables},
        captions={**test.captions, TABLE: " ".join([caption, *(f"{sentence}." for sentence in known)])},
    )


def _row(name: str, there: Metric, here: Metric, recent: Evaluation) -> Row:
    return {
        "metric": name,
        "recent": here.value,
        "recent_low": here.low,
        "recent_high": here.high,
        "recent_n": here.n,
        "test": there.value,
        "test_low": there.low,
        "test_high": there.high,
        "test_n": there.n,
        "recent_split": recent.split_hash,
        "remark": here.note,
    }


def recent_metric(test: Evaluation, metric: str) -> tuple[Metric, str] | None:
    """What a model reaches on recent patients, and the hash of their split; None where nobody is recent."""
    row = next((row for row in test.tables.get(TABLE, []) if row["metric"] == metric), None)
    if row is None:
        return None
    values = (row["recent"], row["recent_low"], row["recent_high"])
    return Metric(*values, row["recent_n"], row["remark"]), row["recent_split"]


def recent_in_words(test: Evaluation, metric: str) -> str:
    """What a model reaches on recent patients, in one sentence; empty where nobody is recent."""
    found = recent_metric(test, metric)
    return f"{metric_named(metric).title} on recent patients (split {found[1]}): {found[0]}" if found else ""
