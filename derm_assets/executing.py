"""How the steps of a run are executed, as `DERM_EXECUTOR` says.

in_process     one after the other in the run's process: a process a step costs some 8 s of start each, and a pipeline
               is straight anyway
multiprocess   each step in a process of its own, those that wait for nothing at the same time
"""

from __future__ import annotations

import os

import dagster as dg

from derm_ml.sentences import WrongValue, unknown

EXECUTOR = "DERM_EXECUTOR"
EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}


def executor_from_environment() -> dg.ExecutorDefinition:
    """The executor the setting names. Raises `WrongValue` for one that there is not."""
    name = os.environ.get(EXECUTOR, "").strip() or "in_process"
    if name not in EXECUTORS:
        raise WrongValue(f"{EXECUTOR}: {unknown('executor', name, EXECUTORS, 'there are')}")
    return EXECUTORS[name]
