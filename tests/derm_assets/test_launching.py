"""`make train TASK=…`: a mistyped name trains nothing, and what was started ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from derm_ml.places import PROJECT

STARTED = """
import sys
from pathlib import Path
from derm_assets.launching import services
with services(Path(sys.argv[1])) as dagster:
    print(dagster.process_group, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["lesion_segmentatio", ""])
def test_an_unknown_task_is_one_sentence_and_no_run(name, tmp_path):
    """A group unknown to Dagster starts a training of everything."""
    command = [sys.executable, "-m", "derm_assets.launching", name]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"no task '{name}'; tasks are: lesion_classification, ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_dagster_ends_with_a_demo_that_was_killed(tmp_path):
    """Webserver and daemon went on, took deliveries and held the ports of the next attempt."""
    places = {f"DERM_{name}": str(tmp_path / name.lower()) for name in ("DATA", "OUT", "HOME")}
    environment = {n: v for n, v in os.environ.items() if n != "DAGSTER_HOME"} | places | {"PYTHONPATH": str(PROJECT)}
    started = subprocess.Popen(
        [sys.executable, "-c", STARTED, str(tmp_path / "log")],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    group = int(started.stdout.readline())
    webserver = psutil.Process(group)
    alive = [webserver, *webserver.children(recursive=True)]
    assert len(alive) >= 3  # with code server and daemon
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    deadline = time.monotonic() + 120  # only so that a broken product ends the test
    while time.monotonic() < deadline and any(p.is_running() for p in alive):
        time.sleep(0.2)
    assert not [p for p in alive if p.is_running()]
