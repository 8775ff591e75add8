"""The champion beside a model, as its report says it: one sentence with the paired difference on the same cases.

    told = beside_champion(task, evaluation, lambda: registry.champion_on(task, evaluation.dataset_md5))

It informs a reader. What decides is measured again by a promotion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derm_ml import DermError
from derm_ml.evaluation.outcomes import RunOutcome, conclusion
from derm_ml.evaluation.verdicts import UNKNOWN
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import in_a_sentence
from derm_ml.promotion.policy import Policy

if TYPE_CHECKING:
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.task import Task


@dataclass(frozen=True, slots=True)
class Champion:
    """The champion of a task: the number of its version, and what was measured of it on the dataset that was asked
    about (None: nothing)."""

    number: int
    evaluation: Evaluation | None


Found = Callable[[], Champion | None]


def beside_champion(task: Task, evaluation: Evaluation, champion: Found) -> RunOutcome:
    """Whether the model is better than the champion on the same cases, or why the two are not compared."""
    try:
        found = champion()
        if found is None:
            return RunOutcome(UNKNOWN, f"There is no champion of {task.name} yet: the model is compared with none.")
        return _compared(task, evaluation, found)
    except DermError as error:  # a model is measured all the same where no registry can be asked
        return RunOutcome(UNKNOWN, f"The model is not compared with a champion: {error}.")


def _compared(task: Task, evaluation: Evaluation, champion: Champion) -> RunOutcome:
    from derm_ml.evaluation.comparison import MetricDifference, primary_difference

    name, other = f"the champion (version {champion.number})", champion.evaluation
    if other is None or other.split_hash != evaluation.split_hash:
        return RunOutcome(
            UNKNOWN,
            f"The champion (version {champion.number}) was not measured on these cases, so the two are not compared "
            f"here; `derm promote {task.name} MODEL --dry-run` measures it on them.",
        )
    if other.model_version == evaluation.model_version:
        return RunOutcome(UNKNOWN, f"This model is {name}.")
    metric = task.primary_metric
    ours, theirs = (of.metrics[metric].value for of in (evaluation, other))
    difference = primary_difference(evaluation, other, task)
    why = "" if difference else "it is undefined for one of the two"
    row = MetricDifference(metric, "This model", ours, theirs, difference, remark=why)
    told = conclusion(row, name, difference.groups if difference else 0, Policy.of(task).patients)
    if ours is None or theirs is None:
        return told
    values = f"{in_a_sentence(metric_named(metric).title)} {ours:.3f}, the champion's {theirs:.3f}"
    return RunOutcome(told.state, f"{told.sentence} Values on these cases: {values}.")
