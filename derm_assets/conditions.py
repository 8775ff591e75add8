"""When a step starts by itself: Dagster's automation conditions, whose parts say in words what they found.

    model             new data (or new code) · checks green · nothing of the task running · enough new patients or old
    what follows it   the model is being trained in the same run
    drift             a day of prediction records is complete
    promoted_model    a person approved the challenger; or, where promotion is automatic, with the rest of the run
    bento             the promotion is under way in the same run

A condition is asked by the task's automation sensor in the code server, and what each part found stands on the asset's
page below Automation: why a run began, or what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.asset_key import AssetKey
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from derm_assets.automation_settings import Automation
from derm_assets.champion_facts import approval_of, champion_facts
from derm_assets.drift import DRIFTED, folder_of, last_whole_day
from derm_assets.lineage import Upstream, latest
from derm_ml import DermError
from derm_ml.places import RECORDS
from derm_ml.task import Task
from derm_ml.training.code_version import training_code

CODE_VERSION_TAG = "dagster/code_version"


@dataclass(frozen=True, slots=True)
class Found:
    """What a part found. `matter` names what is to be acted on once: a dataset, an approval; empty: nothing is."""

    true: bool
    words: str
    matter: str = ""


class Clause(dg.AutomationCondition[AssetKey]):
    """One part of a condition, which a function answers; its label in the UI is what the function said last.

    One that names a `matter` is true until a run was requested for it, and again for another matter: a training that
    failed is not repeated for the same data every half minute.
    """

    def __init__(self, name: str, ask: Callable[[dg.DagsterInstance], Found]) -> None:
        self._name, self._ask, self._said = name, ask, name

    @property
    def name(self) -> str:
        return self._name

    @property
    def description(self) -> str:
        return self._said  # with it the evaluation counts as changed, and is stored

    def get_label(self) -> str:
        return self._said

    def evaluate(self, context: dg.AutomationContext[AssetKey]) -> dg.AutomationResult[AssetKey]:
        if context.candidate_subset.is_empty:  # an earlier part is not true: this one costs nothing
            self._said = self._name
            return dg.AutomationResult(context, context.get_empty_subset(), cursor=context.cursor)
        try:
            found = self._ask(context.asset_graph_view.instance)
        except DermError as error:  # of one task; what it means for the others, they find out themselves
            found = Found(False, f"cannot be told: {error}")
            context.log.warning(f"{self._name}: {error}")
        seen, _, done = (context.cursor or "").partition("\n")
        requested = context.get_previous_requested_subset(context.key)
        if requested is not None and not requested.is_empty:  # the run was asked for what was seen then
            done = seen
        again = bool(found.matter) and found.matter == done
        self._said = f"{self._name}: {found.words}" + (", for which a run was requested already" if again else "")
        chosen = context.candidate_subset if found.true and not again else context.get_empty_subset()
        return dg.AutomationResult(context, chosen, cursor=f"{found.matter if found.true else seen}\n{done}")


def retraining(task: Task, settings: Automation) -> dg.AutomationCondition:
    """When `<task>/model` is trained again."""
    dataset, model = (dg.AssetKey([task.name, noun]) for noun in ("dataset", "model"))

    def new_data(instance: dg.DagsterInstance) -> Found:
        now, before = _latest(instance, dataset), _latest(instance, model)
        if now is None:
            return Found(False, "there is no dataset yet")
        learned = before.metadata["dataset_md5"] if before else ""
        if now.version == learned:
            return Found(False, f"the last model was trained with this dataset ({now.version[:8]})")
        return Found(True, f"dataset {now.version[:8]} is not that of the last model", now.version)

    def new_code(instance: dg.DagsterInstance) -> Found:
        before, code = _code_of(instance, model), training_code(task.name)
        if before == code:
            return Found(False, "the last model was trained by this code")
        return Found(bool(before), f"code {code} is not that of the last model ({before or 'none'})", code)

    def new_patients(instance: dg.DagsterInstance) -> Found:
        facts = champion_facts(task, latest(instance, dataset))
        return Found(facts.new_patients >= settings.new_patients, f"{facts.new_patients}")

    def old(instance: dg.DagsterInstance) -> Found:
        days = champion_facts(task, latest(instance, dataset)).days
        said = "there is no champion" if days is None else f"trained {days:.0f} days ago"
        return Found(days is not None and settings.days is not None and days >= settings.days, said)

    enough = Clause(f"at least {settings.new_patients} patients the champion did not learn from", new_patients)
    either: dg.AutomationCondition = enough
    if settings.days is not None:
        either = (enough | Clause(f"the champion is {settings.days:g} days old", old)).with_label(
            "enough new patients, or an old champion"
        )
    if settings.drift.retrain:
        drift = Clause("the answers of the service drifted", lambda instance: _drifted(instance, task))
        either = (either | drift).with_label("enough new patients, an old champion, or drift")
    data = Clause("the dataset changed", new_data)
    free = Clause("nothing of this task is running", lambda instance: _running(instance, task))
    green = Clause("blocking checks of the dataset are green", lambda instance: _checks(instance, task, dataset))
    due = data & green & free & either
    if not settings.on_new_code:
        return due.with_label("retrain on new data")
    code = Clause("the code that trains changed", new_code) & green & free
    return (due.with_label("new data") | code.with_label("new code")).with_label("retrain on new data or new code")


def watching(task: Task) -> dg.AutomationCondition:
    """When `<task>/drift` is looked at: once for each day of records, after it has ended."""

    def ended(_: dg.DagsterInstance) -> Found:
        if folder_of(task) is None:
            return Found(False, f"no predictions are recorded ({RECORDS} is not set)")
        day = last_whole_day(task)
        return Found(bool(day), f"the last one was {day}" if day else "there is none yet", day)

    return Clause("a day of prediction records has ended", ended)


def following(words: str) -> dg.AutomationCondition:
    """In the same run as something before it that was just requested."""
    return dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested()).with_label(words)


def promoting(task: Task, settings: Automation) -> dg.AutomationCondition:
    """When `<task>/promoted_model` is tried by itself. A person's approval counts whatever the setting."""
    approved = Clause("a person approved the challenger", lambda instance: _approved(task))
    free = Clause("nothing of this task is running", lambda instance: _running(instance, task))
    by_approval = (approved & free).with_label("promote what was approved")
    if settings.promotion == "approval":
        return by_approval
    with_the_rest = following("promotion is automatic, and a challenger is being registered")
    return (by_approval | with_the_rest).with_label("promote on evidence")


def _drifted(instance: dg.DagsterInstance, task: Task) -> Found:
    """Whether the last look found drift, and nothing was trained since."""
    looked, trained = (
        instance.get_latest_materialization_event(dg.AssetKey([task.name, noun])) for noun in ("drift", "model")
    )
    if looked is None or looked.asset_materialization is None:
        return Found(False, "nobody has looked yet")
    metadata = looked.asset_materialization.metadata
    if not metadata[DRIFTED].value:
        return Found(False, "no")
    if trained is not None and trained.timestamp > looked.timestamp:
        return Found(False, "a model was trained since")
    return Found(True, str(metadata["verdict"].value))


def _latest(instance: dg.DagsterInstance, key: AssetKey) -> Upstream | None:
    if instance.get_latest_materialization_event(key) is None:
        return None
    return latest(instance, key)


def _code_of(instance: dg.DagsterInstance, key: AssetKey) -> str:
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        return ""
    return (event.asset_materialization.tags or {}).get(CODE_VERSION_TAG, "")


def _running(instance: dg.DagsterInstance, task: Task) -> Found:
    """Deliveries and preparations count as well: their dataset is about to change again."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES)))
    busy = [run.run_id[:8] for run in runs if _is_of(run, task)]
    return Found(not busy, f"run {', '.join(busy)} is under way" if busy else "true")


def _is_of(run: dg.DagsterRun, task: Task) -> bool:
    assets: Iterable[AssetKey] = run.asset_selection or ()
    return run.tags.get("task") == task.name or any(key.path[0] == task.name for key in assets)


def _checks(instance: dg.DagsterInstance, task: Task, dataset: AssetKey) -> Found:
    """A check that cannot be evaluated stops nothing, here as in a run; Dagster's own condition counts it as failed."""
    keys = {rule.name: dg.AssetCheckKey(dataset, rule.name) for rule in task.rules if rule.blocking}
    made = instance.fetch_materializations(dataset, limit=1).records
    red, missing = [], []
    for name, key in keys.items():
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
        entry = record.event if record is not None else None
        event = entry.dagster_event if entry is not None else None
        if (
            entry is None
            or event is None
            or event.event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION
            or not made
            or entry.timestamp < made[0].timestamp
        ):
            missing.append(name)
            continue
        found = event.asset_check_evaluation_data
        if not found.passed and found.severity == dg.AssetCheckSeverity.ERROR:
            red.append(name)
    if red:
        return Found(False, f"{', '.join(red)} failed")
    if missing:
        return Found(False, f"{', '.join(missing)} did not run on this dataset yet")
    return Found(True, f"none of {len(keys)} failed")


def _approved(task: Task) -> Found:
    approved = approval_of(task)
    if approved is None:
        return Found(False, f"none waits (`derm approve {task.name} --by NAME`)")
    return Found(True, f"version {approved.number}, by {approved.by}", f"{approved.number} {approved.at}")
