"""`make install` and an operator's dagster.yaml: Postgres, retention, launchers are set there, by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from derm_assets.instance import write_settings

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
