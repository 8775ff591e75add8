"""`make train TASK=…`: a mistyped name must not start a training of everything, as a group unknown to Dagster does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["lesion_segmentatio", ""])
def test_an_unknown_task_is_one_sentence_and_no_run(name, tmp_path):
    command = [sys.executable, "-m", "derm_assets.launching", name]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"no task '{name}'; tasks are: lesion_classification, ")
    assert len(done.stderr.splitlines()) == 1
