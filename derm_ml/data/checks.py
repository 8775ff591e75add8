"""The data checks of a task, run again wherever a red one must stop something: before training, and at promotion.

A check that was red in another run stops only that run; whoever trains or promotes later asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derm_ml.records import DataError

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.task import Task


def failed_checks(task: Task, dataset: Dataset) -> list[str]:
    """One sentence for each blocking data check that fails. Reads every stored byte once."""
    findings = [(rule, rule.check(dataset)) for rule in task.rules if rule.blocking]
    return [f"{rule.name}: {finding.message}" for rule, finding in findings if rule.stops(finding)]


def require_usable(task: Task, dataset: Dataset, md5: str = "") -> None:
    """Raises `DataError` if a blocking data check fails, or if the bytes are no longer those of the version `md5`."""
    if md5 and dataset.md5 != md5:
        raise DataError(
            f"{dataset.path} was changed after it was prepared (it is {dataset.md5}, not {md5}): prepare the data again"
        )
    failed = failed_checks(task, dataset)
    if failed:
        raise DataError(f"{dataset.path}: a blocking data check fails, nothing is trained on these data: {failed[0]}")
