"""Dagster as `make dev` starts it, in a home of its own, and a browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from derm_ml.registry import get_task

ROOT = Path(__file__).parents[2]
TASK = get_task("lesion_classification")
SENSOR = f"{TASK.name}_new_images"
SELECTOR = f'{{repositoryName:"__repository__",repositoryLocationName:"derm",sensorName:"{SENSOR}"}}'
START_SENSOR = f"mutation{{startSensor(sensorSelector:{SELECTOR}){{__typename}}}}"


@dataclass
class Dagster:
    """A running server: its address, its folder, and GraphQL as its own pages send it."""

    url: str
    folder: Path
    process: subprocess.Popen[str]

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        origin = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        asked = {"query": query, "variables": variables}
        answer = httpx.post(f"{self.url}/graphql", json=asked, headers=origin, timeout=60)
        answer.raise_for_status()
        return answer.json()["data"]

    @property
    def sensor(self) -> str:
        """RUNNING or STOPPED."""
        query = f"{{sensorOrError(sensorSelector:{SELECTOR}){{...on Sensor{{sensorState{{status}}}}}}}}"
        return self.graphql(query)["sensorOrError"]["sensorState"]["status"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def dagster(slow, tmp_path_factory) -> Iterator[Dagster]:
    folder, port = tmp_path_factory.mktemp("dagster"), free_port()
    home = folder / "home"
    home.mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    places = {f"DERM_{name.upper()}": str(folder / name) for name in ("data", "out", "home")}
    process = subprocess.Popen(
        [sys.executable, "-m", "derm_assets.webserver", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | places | {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url, process), 180, lambda: (folder / "log").read_text()[-3000:])
        yield Dagster(url, folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(url: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, f"the server ended with {process.returncode}"
    try:
        return httpx.get(f"{url}/server_info", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(done, seconds: float, why=lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, why()
        time.sleep(0.3)
