"""`<task>/trial`: the challenger as a Bento that a running service asks too, unseen (docs/operating.md).

Annotations are evaluated here (no `from __future__ import annotations`): Dagster reads the config class from them.
"""

import dagster as dg
from pydantic import Field

from derm_assets.display import say, text
from derm_assets.lineage import UpstreamError
from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.bundles.bundle import Bundle
from derm_ml.promotion import CHALLENGER
from derm_ml.task import Task


class Unseen(dg.Config):
    """Which version answers unseen."""

    version: int | None = Field(None, description="number of a registered version; default: the challenger")
    end: bool = Field(False, description="end the trial: nobody is asked beside the model that answers")


def begin_or_end(
    context: dg.AssetExecutionContext, task: Task, config: Unseen, registry: ModelRegistry
) -> dg.MaterializeResult:
    """Build the Bento of a registered version and name it to the service of the task, which asks it from now on."""
    from derm_assets.packaging import build_bento, name_challenger

    if config.end:
        path = name_challenger(task.name, None)
        say(context, "nobody is asked unseen any more")
        return dg.MaterializeResult(
            data_version=dg.DataVersion("none"), metadata={"path": dg.MetadataValue.path(path), "asked": False}
        )
    number = config.version or registry.alias(task, CHALLENGER)
    if number is None:
        raise UpstreamError(f"{task.name} has no challenger: materialise {task.name}/registered_model first")
    version = registry.read(task, number)
    tag = build_bento(task.name, version.bundle, str(number))
    path = name_challenger(task.name, tag)
    model = Bundle.open(version.bundle).version
    say(context, f"{tag} of version {number} is asked unseen; `derm trial {task.name} --labels FILE` judges it later")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(tag),
        metadata={
            "path": dg.MetadataValue.path(path),
            "asked": True,
            "bento": tag,
            "version": number,
            "model_version": text(model),
        },
    )
