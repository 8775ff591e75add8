"""Finds the tasks: every folder of `derm_ml/tasks` that has a `task.py`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from derm_ml import tasks
from derm_ml.task import Task


@cache
def all_tasks() -> dict[str, Task]:
    """Task name → Task, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg)
    return {name: importlib.import_module(f"derm_ml.tasks.{name}.task").TASK for name in names}


def get_task(name: str) -> Task:
    """The task of that name. Raises `KeyError` listing the known ones."""
    try:
        return all_tasks()[name]
    except KeyError:
        raise KeyError(f"no task '{name}'; tasks are: {', '.join(all_tasks())}") from None
