"""Somebody is told: a sensor that looks at every run that ended, and at the age of the champions.

    run failed · red check · delivery rejected · promotion refused · challenger waiting · champion stale · drift

The text is made of names the platform gives (task, step, check, version) and of metrics. What a run says of files,
deliveries and patients stays behind the link. A notice that cannot be delivered is sent again at the next look.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from derm_assets.automation_settings import STARTED_BY, Automation
from derm_assets.champion_facts import standing_of
from derm_assets.drift import DRIFTED
from derm_assets.notice_channels import VARIABLES, Notice, NoticeError, channels
from derm_assets.reports import dagster_url
from derm_assets.steps import VERDICT
from derm_ml import DermError
from derm_ml.places import installation
from derm_ml.registry import all_tasks
from derm_ml.task import Task

_LOOK_EVERY = 30  # seconds
_AT_ONCE = 20  # runs a look tells of; the next look goes on
_OVERLAP = timedelta(minutes=10)  # a run is stored some time after it ended; who was told of it is remembered
_REMEMBERED = 500  # runs: many more than end within the overlap
_MOST_OWED = 200  # notices kept for a channel that is down; the oldest go first
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_KNOWN = {  # step → kind, what happened, what to do
    "incoming_batch": (
        "delivery_rejected",
        "a delivery was rejected",
        "Nothing of it was taken. It lies with its report in data/incoming/{task}/rejected: correct it and move it "
        "back, or return the report to whoever sent it.",
    ),
    "promoted_model": (
        "promotion_refused",
        "a promotion was refused",
        "The champion stays. The reasons are on the run's page and in `derm history {task}`.",
    ),
}
_FAILED = "The reason and what to do are on the run's page. The champion and its service are not touched."


def notices_sensor() -> dg.SensorDefinition:
    """One sensor for all tasks; it runs where a channel is set."""
    chosen = any(os.environ.get(name, "").strip() for name in VARIABLES)

    @dg.sensor(
        name="notices",
        minimum_interval_seconds=_LOOK_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING if chosen else dg.DefaultSensorStatus.STOPPED,
        description="Tells people by webhook, Slack or mail what needs them (docs/automation.md).",
    )
    def notices(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = datetime.now(UTC)
        first = {"begun": now.isoformat(), "since": now.isoformat(), "told": [], "stale": {}, "owed": {}}
        state: dict[str, Any] = first | json.loads(context.cursor or "{}")
        try:
            sends = channels()
        except NoticeError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=json.dumps(state))
        found = [*_of_runs(context.instance, state), *_of_champions(context, state, now)]
        owed: dict[str, list[dict[str, str]]] = state["owed"]
        sent, failed = 0, []
        for variable, send in sends.items():
            owed[variable] = [*owed.get(variable, []), *map(asdict, found)][-_MOST_OWED:]
            try:
                while owed[variable]:
                    send(Notice(**owed[variable][0]))
                    del owed[variable][0]
                    sent += 1
            except NoticeError as error:
                failed.append(str(error))
        state["owed"] = {variable: owed[variable] for variable in sends}  # nothing is owed where nobody listens
        said = "; ".join(failed) or f"{sent} sent" if sends else f"no channel is set ({', '.join(VARIABLES)})"
        return dg.SensorResult(skip_reason=said, cursor=json.dumps(state))

    return notices


def _of_runs(instance: dg.DagsterInstance, state: dict[str, Any]) -> list[Notice]:
    """Notices of runs that ended since the last look; `state` remembers which were told."""
    begin = max(_time(state["begun"]), _time(state["since"]) - _OVERLAP)
    ended = instance.get_run_records(
        dg.RunsFilter(statuses=_ENDED, updated_after=begin), _REMEMBERED, "update_timestamp", ascending=True
    )
    told: list[str] = state["told"]
    new = [r for r in ended if r.dagster_run.run_id not in told and (r.end_time or 0) >= begin.timestamp()]
    found: list[Notice] = []
    for record in new[:_AT_ONCE]:
        found += notices_of(instance, record.dagster_run)
        told.append(record.dagster_run.run_id)
        state["since"] = record.update_timestamp.replace(tzinfo=UTC).isoformat()
    state["told"] = told[-_REMEMBERED:]
    return found


def notices_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[Notice]:
    """What a run that ended has to tell."""
    name = run.tags.get("task") or next((key.path[0] for key in run.asset_selection or ()), "")
    task = all_tasks().get(name)
    if task is None:
        return
    link = f"{dagster_url()}/runs/{run.run_id}"

    def notice(kind: str, title: str, text: str) -> Notice:
        return Notice(kind, task.name, f"{task.name}: {title}", text, link)

    red = sorted(_red_checks(instance, run))
    if red:
        yield notice(
            "red_check",
            f"{'a check' if len(red) == 1 else f'{len(red)} checks'} failed",
            f"{', '.join(red)}. Nothing after it was made. The check on the run's page says what to correct.",
        )
    if run.status == dg.DagsterRunStatus.FAILURE and not red:
        yield notice(*_failure(instance, run, task))
    if (drifted := _drift(instance, run)) is not None:
        yield notice(
            "drift",
            "what the service is asked has changed",
            f"{drifted}. The asset {task.name}/drift shows by how much. Deliver labelled images of these days, "
            "and look at the report of the next evaluation under recent patients.",
        )
    if run.status == dg.DagsterRunStatus.SUCCESS and STARTED_BY in run.tags:
        waiting = _waiting(instance, run, task)
        if waiting:
            yield notice("challenger_waiting", *waiting)


def _red_checks(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.dagster_event.asset_check_evaluation_data for entry in entries if entry.dagster_event]
    return {c.check_name for c in found if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR}


def _drift(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """What a run found shifted, in a sentence of names the model gives; None where it found nothing."""
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    made = [e.dagster_event for e in entries if e.dagster_event and e.dagster_event.asset_key]
    found = [event for event in made if event.asset_key and event.asset_key.path[-1] == "drift"]
    if not found:
        return None
    metadata = found[-1].step_materialization_data.materialization.metadata
    return str(metadata["verdict"].value) if metadata[DRIFTED].value else None


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun, task: Task) -> tuple[str, str, str]:
    """Kind, title and text of a run that failed; never what its error says, which names files and rows."""
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    steps = [str(e.dagster_event.step_key).removeprefix(f"{task.name}__") for e in entries if e.dagster_event]
    if not steps:
        again = "It is started again by itself." if run.tags.get("dagster/will_retry") == "true" else _FAILED
        return "run_failed", "a run ended without a result", f"Its process was killed, or could not start. {again}"
    if steps[0] in _KNOWN:
        kind, title, text = _KNOWN[steps[0]]
        return kind, title, text.format(task=task.name)
    return "run_failed", "a run failed", f"It failed in the step {steps[0]}. {_FAILED}"


def _waiting(instance: dg.DagsterInstance, run: dg.DagsterRun, task: Task) -> tuple[str, str] | None:
    """Title and text of a challenger that a run nobody launched has registered, if a person has to decide on it."""
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    events = [entry.dagster_event for entry in entries if entry.dagster_event]
    made = {event.asset_key.path[-1]: event for event in events if event.asset_key}
    if "registered_model" not in made or "promoted_model" in made:
        return None
    metadata = made["registered_model"].step_materialization_data.materialization.metadata
    number = metadata["version"].value
    if number == standing_of(task).champion:
        return None
    if metadata[VERDICT].value:  # one sentence of metrics; the reasons against may name images
        said = f"Its promotion {metadata['promotion'].value}."
        return (
            f"version {number} waits for approval",
            f"{said} Look at its report, then approve it: `derm approve {task.name} {number} --by NAME`, or the job "
            f"{task.name}_approve. Without an approval the champion stays.",
        )
    return (
        f"version {number} would be refused",
        "Its evidence does not allow a promotion now; the reasons are at `promotion` of registered_model on the run's "
        "page. The champion stays, and nothing needs to be done.",
    )


def _of_champions(context: dg.SensorEvaluationContext, state: dict[str, Any], now: datetime) -> Iterator[Notice]:
    """A notice for each champion that has become stale, once."""
    told: dict[str, int | None] = state["stale"]
    for task in all_tasks().values():
        try:
            champion = standing_of(task)
            limit = Automation.of(task, installation().params).stale_after
        except DermError as error:
            context.log.warning(f"{task.name}: {error}")
            continue
        if champion.champion is None or told.get(task.name) == champion.champion:
            continue
        days = (now - _time(champion.since)).total_seconds() / 86_400
        if days >= limit:
            told[task.name] = champion.champion
            yield Notice(
                "champion_stale",
                task.name,
                f"{task.name}: the champion is {days:.0f} days old",
                f"Version {champion.champion} has been champion since {champion.since[:10]}. It counts as stale after "
                f"{limit:g} days (stale_after in params.yaml). Deliver newer data, or launch {task.name}_retrain.",
                dagster_url(),
            )


def _time(iso: str) -> datetime:
    found = datetime.fromisoformat(iso)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
