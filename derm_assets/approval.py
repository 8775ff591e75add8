"""`<task>_approve`: a person approves a challenger in the UI, as `derm approve` does in a terminal.

A job and no asset, so that "Materialize all" never approves anything.
Annotations are evaluated here (no `from __future__ import annotations`): Dagster reads the config class from them.
"""

import dagster as dg
from pydantic import Field

from derm_assets.failures import told
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.promotions import Promotions
from derm_ml.task import Task


class Approval(dg.Config):
    """Who approves which version."""

    by: str = Field(description="your name, which goes into the promotion ledger")
    version: int | None = Field(None, description="number of a registered version; default: the challenger")


def approval(task: Task) -> dg.JobDefinition:
    """The job of one task."""

    @dg.op(name=f"{task.name}_approve_challenger", tags={"task": task.name})
    @told
    def approve_challenger(context: dg.OpExecutionContext, config: Approval, registry: ModelRegistry) -> None:
        """Write into the promotion ledger that a person approves a challenger; its promotion starts by itself."""
        context.log.info(Promotions(registry).approve(task, config.version, config.by))

    @dg.job(
        name=f"{task.name}_approve",
        tags={"task": task.name},
        description="Approve the challenger; it is promoted if its evidence still holds.",
    )
    def approve() -> None:
        approve_challenger()

    return approve
