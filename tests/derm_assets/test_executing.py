"""Which executor a setting names, and the sentence where it cannot be had."""

from __future__ import annotations

import sys

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob

from derm_assets.executing import EXECUTOR, executor_from_environment
from derm_assets.resources.trainer import SETTING
from derm_ml.places import CELERY, DAGSTER_STORAGE, PROJECT
from derm_ml.sentences import WrongValue


@pytest.fixture
def workers(monkeypatch) -> None:
    """What an operator sets for Celery."""
    pytest.importorskip("dagster_celery", reason="pip install 'derm-platform[celery]'")
    monkeypatch.setenv(EXECUTOR, "celery")
    monkeypatch.setenv(SETTING, "subprocess")


def test_the_setting_names_the_executor(monkeypatch):
    for name, kind in {"": "in_process", "in_process": "in_process", "multiprocess": "multiprocess"}.items():
        monkeypatch.setenv(EXECUTOR, name)
        assert executor_from_environment().name == kind
    monkeypatch.setenv(EXECUTOR, "selery")
    said = r"DERM_EXECUTOR: no executor 'selery' \(did you mean 'celery'\?\); there are in_process, multi"
    with pytest.raises(WrongValue, match=said):
        executor_from_environment()


@pytest.mark.parametrize(("name", "package"), [("celery", "dagster_celery"), ("kubernetes", "dagster_k8s")])
def test_an_executor_whose_extra_is_missing_names_it(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv(EXECUTOR, name)
    with pytest.raises(WrongValue, match=rf"{package} is not installed: pip install 'derm-platform\[{name}\]'"):
        executor_from_environment()


def test_the_file_that_is_shipped_is_read_by_dagster_too(workers, monkeypatch):
    monkeypatch.setenv(CELERY, str(PROJECT / "deploy" / "celery.yaml"))
    assert executor_from_environment().name == "celery"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("execution: [", "cannot be read"),
        ("- broker", "names no `broker` and `backend`"),
        ("execution: {config: {broker: redis://localhost}}", "names no `broker` and `backend`"),
    ],
)
def test_a_file_without_broker_and_backend_is_named(workers, monkeypatch, tmp_path, text, said):
    path = tmp_path / "celery.yaml"
    if text:
        path.write_text(text)
    monkeypatch.setenv(CELERY, str(path))
    with pytest.raises(WrongValue, match=rf"DERM_CELERY: .*celery\.yaml {said}"):
        executor_from_environment()


def test_celery_without_its_file_or_with_trainings_in_its_workers_is_refused(workers, monkeypatch):
    """The run would begin, and its training end with "daemonic processes are not allowed to have children"."""
    with pytest.raises(WrongValue, match="let DERM_CELERY name the file that its workers are started with"):
        executor_from_environment()
    monkeypatch.setenv(SETTING, "process")
    with pytest.raises(WrongValue, match=r"cannot start the processes that prepare images .*: set DERM_TRAINER=subpr"):
        executor_from_environment()


def test_kubernetes_needs_a_database_that_pods_reach_and_the_launcher_of_its_runs(monkeypatch):
    pytest.importorskip("dagster_k8s", reason="pip install 'derm-platform[kubernetes]'")
    monkeypatch.setenv(EXECUTOR, "kubernetes")
    monkeypatch.delenv(DAGSTER_STORAGE, raising=False)
    with pytest.raises(WrongValue, match="let DERM_DAGSTER_STORAGE name a Postgres database"):
        executor_from_environment()
    monkeypatch.setenv(DAGSTER_STORAGE, "postgresql://derm@db/dagster")
    executor = executor_from_environment()

    nothing = dg.GraphDefinition("nothing").to_job(executor_def=executor)
    with dg.instance_for_test() as instance:  # its launcher starts processes of this machine
        began = dg.InitExecutorContext(InMemoryJob(nothing), executor, {}, instance)
        with pytest.raises(WrongValue, match=r"let `run_launcher` in dagster\.yaml be K8sRunLauncher, as in deploy/"):
            executor.executor_creation_fn(began)
