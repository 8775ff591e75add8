"""`make install` and an operator's dagster.yaml: Postgres, retention, launchers are set there, by hand. And what the
storage that dagster.yaml names tells the daemon of runs that ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent

from derm_assets.instance import write_settings
from derm_assets.resources.dagster_storage import STATUS_FOLLOWS
from derm_ml.places import PROJECT

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path) -> Path:
    path = tmp_path / "project.yaml"
    path.write_text("first: 1\n")
    return path


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home" / "dagster"


def test_a_fresh_home_gets_the_settings_and_follows_the_project(settings, home):
    assert write_settings(settings, home) == ""
    settings.write_text("second: 2\n")
    assert write_settings(settings, home) == ""
    assert (home / "dagster.yaml").read_text() == "second: 2\n"


def test_an_operator_s_settings_are_kept_and_told_of_news_once(settings, home):
    write_settings(settings, home)
    (home / "dagster.yaml").write_text("storage: {postgres: {}}\n")
    assert write_settings(settings, home) == ""  # nothing new
    settings.write_text("second: 2\n")
    os.utime(settings, (2e9, 2e9))  # newer, as after a git pull
    assert "was changed by hand and is kept" in write_settings(settings, home)
    assert write_settings(settings, home) == ""
    assert (home / "dagster.yaml").read_text() == "storage: {postgres: {}}\n"


def test_settings_from_before_there_was_a_record_are_kept(settings, home):
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("storage: {postgres: {}}\n")
    assert "compare it with" in write_settings(settings, home)
    assert (home / "dagster.yaml").read_text() == "storage: {postgres: {}}\n"


def test_make_install_keeps_them(home):
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("storage: {postgres: {}}\n")
    os.utime(home / "dagster.yaml", (1, 1))  # older than the project's
    command = ["make", "-o", ".venv/installed", "install", f"DAGSTER_HOME={home}", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "is kept" in done.stderr
    assert (home / "dagster.yaml").read_text() == "storage: {postgres: {}}\n"


@pytest.mark.parametrize(("age", "told"), [(0.0, False), (STATUS_FOLLOWS + 1, True)])
def test_a_run_that_failed_is_told_to_the_daemon_when_its_status_says_so(age, told, tmp_path, monkeypatch):
    """The daemon looks at a failure once. One it saw before the status was there was never started again: the training
    that a power cut ended lay dead in the morning. One whose status never follows holds up nobody for long."""
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        first, second = (
            instance.create_run_for_job(an_empty_job, status=dg.DagsterRunStatus.STARTED) for _ in range(2)
        )

        def failed(run: dg.DagsterRun) -> dg.EventLogEntry:
            event = DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, run.job_name, message="its process is gone")
            return dg.EventLogEntry(None, 40, "", run.run_id, time.time() - age, None, run.job_name, event)

        def told_of() -> list[str]:
            found = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
                after_cursor=0, dagster_event_type={dg.DagsterEventType.RUN_FAILURE}
            )
            return [entry.run_id for entry in found.values()]

        instance.event_log_storage.store_event(failed(first))  # and the status a moment later
        instance.handle_new_event(failed(second))
        assert told_of() == ([first.run_id, second.run_id] if told else [])
        instance.run_storage.handle_run_event(first.run_id, failed(first).get_dagster_event())
        assert told_of() == [first.run_id, second.run_id]


@dg.job
def an_empty_job():
    pass
