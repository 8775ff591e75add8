"""A command line in an empty installation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def derm(tmp_path_factory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`derm …` as a process of an installation of its own; `derm.root` is its folder."""
    root = tmp_path_factory.mktemp("installation")
    folders = {f"DERM_{name.upper()}": str(root / name) for name in ("data", "out", "home")}
    environment = {**os.environ, **folders, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "derm_ml.cli", *map(str, arguments)]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    run.root = root  # type: ignore[attr-defined]
    return run
