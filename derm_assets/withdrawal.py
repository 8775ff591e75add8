"""`<task>_withdraw`: takes an accepted delivery out of the raw folder again.

A job and no asset, so that "Materialize all" never takes anything out.
Annotations are evaluated here (no `from __future__ import annotations`): Dagster reads the config class from them.
"""

import dagster as dg
from pydantic import Field

from derm_assets import data_steps
from derm_assets.resources.places import Places
from derm_ml.task import Task


class WithdrawnBatch(dg.Config):
    """Which delivery is taken out again."""

    batch: str = Field(description="as it was delivered, or the name of its folder below data/raw/<task>/batches")


def withdrawal(task: Task) -> dg.JobDefinition:
    """The job of one task."""

    @dg.op(name=f"{task.name}_withdraw_batch", pool="dvc", tags={"task": task.name})
    def withdraw_batch(context: dg.OpExecutionContext, config: WithdrawnBatch, places: Places) -> None:
        """Move a delivery to `data/withdrawn/<task>/` and name the models that were trained on it."""
        data_steps.withdraw_batch(context, task, config.batch, places)

    @dg.job(
        name=f"{task.name}_withdraw",
        tags={"task": task.name},
        description="Take an accepted delivery out of the raw folder; materialise the dataset afterwards.",
    )
    def withdraw() -> None:
        withdraw_batch()

    return withdraw
