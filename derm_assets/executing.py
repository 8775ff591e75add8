"""How the steps of a run are executed, as `DERM_EXECUTOR` says.

in_process     one after the other in the run's process: a process a step costs some 8 s of start each, and a pipeline
               is straight anyway
multiprocess   each step in a process of its own, those that wait for nothing at the same time
celery         each step by a worker of Celery, on any machine that has the same data and the same storage of Dagster
kubernetes     each step in a Job of Kubernetes, as the run itself
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
import yaml

from derm_assets.resources.trainer import SETTING
from derm_ml.places import CELERY, DAGSTER_STORAGE, setting_path
from derm_ml.sentences import WrongValue, unknown

EXECUTOR = "DERM_EXECUTOR"


def executor_from_environment() -> dg.ExecutorDefinition:
    """The executor the setting names.

    Raises `WrongValue` for one that there is not, or that lacks its extra or its settings.
    """
    name = os.environ.get(EXECUTOR, "").strip() or "in_process"
    if name not in EXECUTORS:
        raise WrongValue(f"{EXECUTOR}: {unknown('executor', name, EXECUTORS, 'there are')}")
    return EXECUTORS[name]()


def _celery() -> dg.ExecutorDefinition:
    with _extra("celery"):
        from dagster_celery import celery_executor  # pyright: ignore[reportMissingImports]  # an extra

    if (os.environ.get(SETTING, "").strip() or "process") == "process":
        raise WrongValue(
            f"{EXECUTOR} is celery, whose workers cannot start the processes that prepare images for a training: set "
            f"{SETTING}=subprocess, or slurm, ray or kubernetes"
        )
    return celery_executor.configured(_settings_of_workers(), name="celery")


def _settings_of_workers() -> Mapping[str, Any]:
    """What the workers read of the same file: broker, backend, further settings of Celery."""
    path = setting_path(CELERY)
    if path is None:
        raise WrongValue(
            f"{EXECUTOR} is celery: let {CELERY} name the file that its workers are started with, such as "
            "deploy/celery.yaml"
        )
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WrongValue(f"{CELERY}: {path} cannot be read ({str(error).splitlines()[0]})") from None
    try:
        settings: Mapping[str, Any] = found["execution"]["config"]
        assert settings["broker"]
        assert settings["backend"]
    except (AssertionError, KeyError, TypeError):
        raise WrongValue(f"{CELERY}: {path} names no `broker` and `backend` below `execution`, `config`") from None
    return settings


def _kubernetes() -> dg.ExecutorDefinition:
    with _extra("kubernetes"):
        from dagster_k8s import K8sRunLauncher, k8s_job_executor  # pyright: ignore[reportMissingImports]  # an extra

    if not os.environ.get(DAGSTER_STORAGE, "").strip():
        raise WrongValue(
            f"{EXECUTOR} is kubernetes, but no other pod reaches the sqlite files of this one: let {DAGSTER_STORAGE} "
            "name a Postgres database"
        )

    @dg.executor(
        name="kubernetes",
        config_schema=k8s_job_executor.config_schema,  # pyright: ignore[reportArgumentType]  # it is one
        requirements=dg.multiple_process_executor_requirements(),
    )
    def in_jobs(context: dg.InitExecutorContext) -> dg.Executor:
        """Dagster's own, which takes image, volumes and variables of a step from the launcher of runs."""
        if not isinstance(context.instance.run_launcher, K8sRunLauncher):
            raise WrongValue(
                f"{EXECUTOR} is kubernetes, but {type(context.instance.run_launcher).__name__} launched the run: let "
                "`run_launcher` in dagster.yaml be K8sRunLauncher, as in deploy/kubernetes/steps/dagster.yaml"
            )
        return k8s_job_executor.executor_creation_fn(context)  # pyright: ignore[reportOptionalCall]  # it has one

    return in_jobs


@contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WrongValue(
            f"{EXECUTOR} is {name}, but {error.name} is not installed: pip install 'derm-platform[{name}]'"
        ) from None


EXECUTORS: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    "in_process": lambda: dg.in_process_executor,
    "multiprocess": lambda: dg.multiprocess_executor,
    "celery": _celery,
    "kubernetes": _kubernetes,
}
