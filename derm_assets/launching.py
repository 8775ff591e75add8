"""Runs as the Dagster UI launches them: queued in the instance, started by its daemon, in a process of their own.

    with services(log) as dagster:                      # webserver, daemon and code server; ended on leaving
        run = dagster.launch("lesion_classification_retrain", config={…})
        status = follow(instance, run, print)           # a line for each step and epoch

`make demo` and the tests launch this way. `execute_in_process` hides what only a launched run meets: another start
method, another working directory, the run queue, pools, retries.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import httpx

from derm_assets.guard import authorization
from derm_assets.instance import use_home
from derm_ml import DermError
from derm_ml.entrance import enter
from derm_ml.places import python_path
from derm_ml.registry import get_task

if TYPE_CHECKING:
    from dagster_graphql import DagsterGraphQLClient

START_TIMEOUT = 180  # seconds until the code location is loaded: 20 on two idle cores
STOP_TIMEOUT = 60  # seconds the services get to end their own processes
_LOOK_EVERY = 0.5  # seconds between two looks at a run's events
_LOCATION = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


class LaunchError(DermError, RuntimeError):
    """Dagster did not start, or refused to launch a run; the message says why."""


@dataclass(frozen=True, slots=True)
class Dagster:
    """A running Dagster: where its UI is, a way to launch runs through it, and the group of all its processes."""

    url: str
    client: DagsterGraphQLClient
    process_group: int

    def launch(
        self,
        job: str,
        config: Mapping[str, Any] | None = None,
        assets: Sequence[dg.AssetKey] | None = None,
        partition: str = "",
    ) -> str:
        """Queue a run of a job (or of some of its assets) and return its id. Raises `LaunchError` if it is refused."""
        from dagster_graphql import DagsterGraphQLClientError

        tags = {"dagster/partition": partition} if partition else {}
        try:
            return self.client.submit_job_execution(job, run_config=config or {}, tags=tags, asset_selection=assets)
        except DagsterGraphQLClientError as error:
            raise LaunchError(f"{job} was not launched: {_said(error)}") from error


@contextmanager
def services(log: Path, port: int = 0) -> Iterator[Dagster]:
    """Dagster behind its guard on `port` (0: a free one) of 127.0.0.1, with the environment's DAGSTER_HOME and token.

    What it says goes to `log`.

    Raises `LaunchError` with the end of the log if it ends early or the definitions do not load.
    """
    from dagster_graphql import DagsterGraphQLClient

    port = port or _free_port()
    command = [sys.executable, "-m", "derm_assets.webserver"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--with-stdin"],
            env=os.environ | {"PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,  # closed when we are gone, however that comes about
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what is left of it can be killed as one
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_loaded(process, url, log)
        yield Dagster(url, DagsterGraphQLClient("127.0.0.1", port_number=port, headers=authorization()), process.pid)
    finally:
        _end(process)


def follow(instance: dg.DagsterInstance, run_id: str, say: Callable[[str], None]) -> dg.DagsterRunStatus:
    """Wait for the end of a run and return its status; `say` gets a line for each step, epoch and reason of failure."""
    cursor: str | None = None
    while True:
        run = instance.get_run_by_id(run_id)
        if run is None:
            raise LaunchError(f"run {run_id} was deleted while it was waited for")
        page = instance.get_records_for_run(run_id, cursor)
        for record in page.records:
            if record.event_log_entry.dagster_event and (line := _line(record.event_log_entry.dagster_event)):
                say(line)
        cursor = page.cursor
        if run.is_finished and not page.has_more:
            return run.status
        time.sleep(_LOOK_EVERY)


def _line(event: dg.DagsterEvent) -> str:
    kind = event.event_type
    if kind == dg.DagsterEventType.STEP_START:
        return f"{event.step_key}"
    if kind == dg.DagsterEventType.ASSET_OBSERVATION:
        observed = event.asset_observation_data.asset_observation
        shown = {n: v.value for n, v in observed.metadata.items() if isinstance(v, dg.FloatMetadataValue)}
        figures = ", ".join(f"{name} {value:.3g}" for name, value in shown.items() if value is not None)
        return f"  {observed.description}: {figures}"
    if kind == dg.DagsterEventType.STEP_FAILURE:
        return f"  {event.step_key} failed: {_reason(event)}"
    if kind == dg.DagsterEventType.RUN_FAILURE:
        return f"  {event.message}"
    return ""


def _reason(event: dg.DagsterEvent) -> str:
    """What a person has to know of a failed step: the message of the exception that began it."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else str(event.message)


def _said(error: Exception) -> str:
    """The reasons in what the client raises: a kind, then a sentence or the validation's errors."""
    body = error.args[-1]
    if isinstance(body, list):
        return "; ".join(str(part.get("message", part)) for part in body)
    return str(body).split("\n\nStack Trace")[0]  # a refusal by the code location comes with where it was raised


def _wait_until_loaded(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LaunchError(f"Dagster ended with status {process.returncode} before it was ready:\n{_tail(log)}")
        try:
            answer = httpx.post(f"{url}/graphql", json={"query": _LOCATION}, headers=authorization(), timeout=30).json()
        except httpx.TransportError:  # not listening yet
            time.sleep(_LOOK_EVERY)
            continue
        entries = answer["data"]["workspaceOrError"].get("locationEntries", [])
        broken = [e["locationOrLoadError"]["message"] for e in entries if "message" in (e["locationOrLoadError"] or {})]
        if broken:
            raise LaunchError(f"the definitions cannot be loaded: {broken[0]}")
        if entries and all(e["loadStatus"] == "LOADED" for e in entries):
            return
        time.sleep(_LOOK_EVERY)
    raise LaunchError(f"Dagster was not ready after {START_TIMEOUT} s:\n{_tail(log)}")


def _end(process: subprocess.Popen) -> None:
    """Terminate, which ends it as Ctrl-C does; whatever of its session is left after that is killed.

    Not SIGINT: what a shell starts in the background ignores it.
    """
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # nothing was left
        os.killpg(process.pid, signal.SIGKILL)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    """Materialize the group of the task that is named, without the UI: `make train TASK=…`."""
    try:
        enter()
        task = get_task(sys.argv[1] if len(sys.argv) > 1 else "")
    except (KeyError, DermError) as error:
        raise SystemExit(str(error.args[0])) from None
    materialize = ["asset", "materialize", "-m", "derm_assets.definitions", "--select", f"group:{task.name}"]
    command = [sys.executable, "-m", "dagster", *materialize]
    # not in the project's folder: there Dagster lets .env win over the environment
    done = subprocess.run(command, cwd=use_home(), env=os.environ | {"PYTHONPATH": python_path()}, check=False)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
