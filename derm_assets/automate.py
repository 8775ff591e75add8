"""Switch the automation of a task on or off: `make automate TASK=…`.

    python -m derm_assets.automate lesion_classification         # on
    python -m derm_assets.automate lesion_classification off
    python -m derm_assets.automate lesion_classification status

What is switched are the task's sensors, and its schedule where params.yaml says `schedule: {enabled: true}`. Dagster
keeps that in its instance: it survives restarts, whether the daemon runs at the moment or not, and the UI shows it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterInstance
from dagster._core.remote_representation.external import RemoteRepository, RemoteSchedule, RemoteSensor
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from derm_assets.automation_settings import Automation
from derm_assets.instance import use_home
from derm_ml import DermError
from derm_ml.entrance import enter
from derm_ml.places import PROJECT, installation, python_path
from derm_ml.registry import all_tasks, get_task
from derm_ml.sentences import unknown
from derm_ml.task import Task

ON, OFF, STATUS = "on", "off", "status"


class SwitchError(DermError, RuntimeError):
    """The automation cannot be switched."""


def switch(task: Task, settings: Automation, wish: str) -> list[str]:
    """A line for each sensor and schedule of the task: whether it is on now. Raises `SwitchError`."""
    with _repository() as (instance, repository):
        lines = []
        for name in (f"{task.name}_new_images", f"{task.name}_automation"):
            found = repository.get_sensor(name)
            lines.append(f"{name} is {_sensor(instance, found, wish)}")
        schedule = repository.get_schedule(f"{task.name}_weekly_retrain")
        wanted = OFF if wish == ON and not settings.schedule.enabled else wish
        why = " (params.yaml: schedule.enabled is false)" if wanted != wish else ""
        return [*lines, f"{schedule.name} is {_schedule(instance, schedule, wanted)}{why}"]


def _sensor(instance: DagsterInstance, found: RemoteSensor, wish: str) -> str:
    origin = found.get_remote_origin_id()
    if wish == ON:
        instance.start_sensor(found)
    elif wish == OFF:
        instance.stop_sensor(origin, found.selector_id, found)
    state = instance.get_instigator_state(origin, found.selector_id)
    return ON if found.get_current_instigator_state(state).is_running else OFF


def _schedule(instance: DagsterInstance, found: RemoteSchedule, wish: str) -> str:
    origin = found.get_remote_origin_id()
    if wish == ON:
        instance.start_schedule(found)
    elif wish == OFF:
        instance.stop_schedule(origin, found.selector_id, found)
    state = instance.get_instigator_state(origin, found.selector_id)
    return ON if found.get_current_instigator_state(state).is_running else OFF


@contextmanager
def _repository() -> Iterator[tuple[DagsterInstance, RemoteRepository]]:
    """The instance, and the definitions as the daemon knows them: loaded as the workspace names them."""
    target = WorkspaceFileTarget([str(PROJECT / "workspace.yaml")])
    with (
        DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, target, code_server_log_level="WARNING") as process,
    ):
        entry = next(iter(process.create_request_context().get_code_location_entries().values()))
        if entry.code_location is None:
            why = entry.load_error.cause or entry.load_error if entry.load_error else None
            raise SwitchError(f"the definitions cannot be loaded: {why.message.strip() if why else 'no reason given'}")
        yield instance, next(iter(entry.code_location.get_repositories().values()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m derm_assets.automate", description="Switch a task's automation.")
    parser.add_argument("task")
    parser.add_argument("wish", nargs="?", choices=(ON, OFF, STATUS), default=ON)
    given = parser.parse_args()
    try:
        enter()
        if given.task not in all_tasks():
            raise SwitchError(unknown("task", given.task, all_tasks(), "tasks are:"))
        task = get_task(given.task)
        settings = Automation.of(task, installation().params)
        os.environ["PYTHONPATH"] = python_path()  # of the code server, which works in another folder
        home = use_home()
        home.mkdir(parents=True, exist_ok=True)
        os.chdir(home)  # Dagster lets a .env of its working directory win over the environment: here is none
        for line in switch(task, settings, given.wish):
            print(line)
    except DermError as error:
        print(f"derm: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
