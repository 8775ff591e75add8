"""What starts by itself, all of it off until `make automate TASK=…`: two sensors and a schedule; and the jobs.

<task>_new_images   sensor: `<task>_prepare`, once for each delivered batch
<task>_automation   sensor: asks the conditions (conditions.py) of everything from the model to the Bento
<task>_weekly_retrain   schedule: `<task>_retrain`, where params.yaml switches it on

<task>_prepare   incoming_batch → dataset                    by the sensor
<task>_withdraw  an accepted batch out of the raw folder     by a person
<task>_retrain   dataset → model → evaluation → challenger   by the schedule, or a person
<task>_approve   a person approves a challenger              by a person, as `derm approve`
<task>_promote   champion → Bento                            by a person
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from derm_assets.approval import approval
from derm_assets.automation_settings import Automation, tags_of
from derm_assets.resources.places import Places
from derm_assets.withdrawal import withdrawal
from derm_ml.data.deliveries import REJECTED
from derm_ml.escape import visible
from derm_ml.task import Task


def automation(
    task: Task, settings: Automation, batches: dg.DynamicPartitionsDefinition, extras: Sequence[dg.AssetKey]
) -> dg.Definitions:
    """Jobs, sensors and schedule of one task."""

    def job(verb: str, keys: Sequence[dg.AssetKey], description: str) -> dg.UnresolvedAssetJobDefinition:
        return dg.define_asset_job(
            f"{task.name}_{verb}",
            selection=dg.AssetSelection.assets(*keys),
            description=description,
            tags={"task": task.name},
        )

    def keys(*names: str) -> list[dg.AssetKey]:
        return [dg.AssetKey([task.name, name]) for name in names]

    prepare = job("prepare", keys("incoming_batch", "dataset"), "Take a delivered batch in and prepare the dataset.")
    retrain = job(
        "retrain",
        [*keys("dataset", "model", "evaluation", "registered_model"), *extras],
        "Train on the current data, measure, register as challenger.",
    )
    promote = job("promote", keys("promoted_model", "bento"), "Make the challenger the champion and release it.")
    weekly = dg.ScheduleDefinition(
        name=f"{task.name}_weekly_retrain",
        job=retrain,
        cron_schedule=settings.schedule.cron,
        execution_timezone=settings.schedule.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        tags=tags_of(task, "schedule", settings.schedule.recipe),
    )
    conditions = dg.AutomationConditionSensorDefinition(
        f"{task.name}_automation",
        target=[*keys("model", "evaluation", "registered_model", "promoted_model", "bento", "drift"), *extras],
        description="Asks what is to be trained, promoted or released by itself; the assets' conditions say why.",
        run_tags=tags_of(task, "automation", settings.recipe),
        minimum_interval_seconds=settings.look_every,
        default_status=dg.DefaultSensorStatus.STOPPED,
        emit_backfills=False,  # nothing here has partitions: a run, which shows its tags
        use_user_code_server=True,  # the conditions are our own
    )
    return dg.Definitions(
        jobs=[prepare, withdrawal(task), retrain, approval(task), promote],
        schedules=[weekly],
        sensors=[inbox_sensor(task, settings, batches, prepare), conditions],
    )


def inbox_sensor(
    task: Task,
    settings: Automation,
    batches: dg.DynamicPartitionsDefinition,
    prepare: dg.UnresolvedAssetJobDefinition,
) -> dg.SensorDefinition:
    """Asks for one run of `<task>_prepare` for each new folder below `data/incoming/<task>/`.

    A folder is taken when two looks in a row find it unchanged, so one that is still being copied waits. The
    cursor only saves work: that no batch is taken twice is held by the run key (batch and state of its files),
    which Dagster keeps with the run; a cursor that was lost costs one more look. A rejected batch that was moved back
    is asked for again, even if not a file of it changed: perhaps a setting did.
    """

    @dg.sensor(
        name=f"{task.name}_new_images",
        job=prepare,
        minimum_interval_seconds=settings.look_every,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def new_images(context: dg.SensorEvaluationContext, places: dg.ResourceParam[Places]) -> dg.SensorResult:
        seen: dict[str, list] = json.loads(context.cursor or "{}")
        found, unusable = _batches(places.incoming(task))
        for sentence in unusable:
            context.log.warning(sentence)
        settled = [b for b, state in found.items() if seen.get(b, [""])[0] == state and not seen[b][1]]
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=f"{batch}:{found[batch]}", partition_key=batch, tags={"batch": batch})
                for batch in settled
            ],
            dynamic_partitions_requests=[batches.build_add_request(settled)] if settled else [],
            cursor=json.dumps({b: [s, b in settled or seen.get(b) == [s, True]] for b, s in found.items()}),
            skip_reason=None if settled else "; ".join([f"nothing new in {places.incoming(task)}", *unusable]),
        )

    return new_images


def _batches(inbox: Path) -> tuple[dict[str, str], list[str]]:
    """Batch → the state of its files (names, sizes, times), which changes while it is still being copied; and a
    sentence for each folder that cannot be a batch, so that it does not keep the others waiting."""
    if not inbox.is_dir():
        return {}, []
    folders = sorted(p for p in inbox.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != REJECTED)
    unusable = {folder: why for folder in folders if (why := _not_a_batch(folder))}
    states = {folder.name: (_state(folder), _rejections(folder)) for folder in folders if folder not in unusable}
    found = {name: f"{state}.{times}" if times else state for name, (state, times) in states.items() if state}
    return found, [f"{visible(str(folder))}: {why}" for folder, why in unusable.items()]


def _not_a_batch(folder: Path) -> str:
    """Why a folder of the inbox is not taken; empty for one that is. Its name becomes a partition key of Dagster."""
    if folder.is_symlink():
        return "is a link; put the folder itself there"
    if not folder.name.isprintable() or "..." in folder.name:
        return "its name has characters that cannot be shown, or three dots; rename it"
    return ""


def _rejections(folder: Path) -> int:
    """How often a batch of this name was rejected: as many reports lie in `rejected/`."""
    reports = (folder.parent / REJECTED).glob("*.txt")
    return sum(path.stem == folder.name or path.stem.rpartition(".")[0] == folder.name for path in reports)


def _state(folder: Path) -> str:
    """16 hex digits, empty for a folder without files."""
    files = [(p.relative_to(folder).as_posix(), p.stat()) for p in sorted(folder.rglob("*")) if p.is_file()]
    listing = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files])
    return hashlib.sha256(listing.encode()).hexdigest()[:16] if files else ""
