"""Dagster for a team: the webserver behind its guard, the daemon and the code server, started and ended together.

    python -m derm_assets.webserver                                  # what `make dev` runs: http://127.0.0.1:3001
    DERM_DAGSTER_TOKEN=… python -m derm_assets.webserver --host 0.0.0.0

It does what `dg dev` does, with one difference: Dagster's ASGI application runs inside `guard.Guard`, in one process,
so there is no second port on which it could be asked without it. It uses the parts `dg dev` is made of, which Dagster
may move within a minor version: hence the narrow range in pyproject.toml, and a test that starts it.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import uvicorn
import yaml
from dagster import DagsterInstance
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._cli.utils import get_possibly_temporary_instance_for_cli
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._serdes import serialize_value
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers
from dagster_shared.ipc import get_ipc_shutdown_pipe, open_ipc_subprocess, send_ipc_shutdown_message
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from derm_assets.automation_settings import Automation
from derm_assets.guard import Guard, Rules
from derm_assets.instance import use_home
from derm_assets.reports import reports_app
from derm_ml import DermError
from derm_ml.entrance import enter
from derm_ml.machine import writing
from derm_ml.places import PROJECT, installation, python_path
from derm_ml.registry import all_tasks

ENDING = 60.0  # seconds the daemon gets to finish a tick, as `dg dev` gives it
POLL = 1.0  # seconds between two looks whether the daemon lives


class WebserverError(DermError):
    """A part of the server ended by itself."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m derm_assets.webserver", description="Dagster behind its guard.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; all but loopback need a token")
    parser.add_argument("--port", type=int, default=3001)
    parser.add_argument("-w", "--workspace", type=Path, default=PROJECT / "workspace.yaml")
    parser.add_argument(
        "--with-stdin", action="store_true", help="end when standard input is closed: whoever started it is gone"
    )
    given = parser.parse_args()
    try:
        enter()
        for task in all_tasks().values():  # in one sentence here, in a trace where the definitions load
            Automation.of(task, installation().params)
        os.environ["PYTHONPATH"] = python_path()  # of the code server and the runs, which work in another folder
        workspace = given.workspace.absolute()
        home = use_home()
        with writing(home, making=True):
            home.mkdir(parents=True, exist_ok=True)
        os.chdir(home)  # Dagster lets a .env of its working directory win over the environment: here is none
        serve(given.host, given.port, workspace, sys.stdin.buffer if given.with_stdin else None)
    except KeyboardInterrupt:
        pass  # Ctrl-C or SIGTERM: everything was ended
    except DermError as error:
        print(f"derm: {error}", file=sys.stderr)
        sys.exit(2)


def serve(host: str, port: int, workspace: Path, held: BinaryIO | None = None) -> None:
    """Run until Ctrl-C, SIGTERM, or the end of what is read from `held`, if that is given.

    Raises `GuardError` for settings that protect nothing, `WebserverError` if the daemon ends.
    """
    if not workspace.is_file():
        raise WebserverError(f"{workspace} does not exist: name another with --workspace")
    os.environ["DAGSTER_IS_DEV_CLI"] = "1"  # as `dg dev` does: a location that does not load says so in short
    configure_loggers()
    setup_interrupt_handlers()
    logger = logging.getLogger("dagster")
    with ExitStack() as stack:
        instance = stack.enter_context(get_possibly_temporary_instance_for_cli("derm_assets.webserver", logger=logger))
        rules = Rules.from_environment(host, port)
        code = stack.enter_context(code_servers(instance, workspace))
        daemon = stack.enter_context(running_daemon(instance, code))
        context = stack.enter_context(
            WorkspaceProcessContext(
                instance, workspace_load_target=WorkspaceFileTarget([str(code)]), version=__version__
            )
        )
        app = Guard(create_app_from_workspace_process_context(context, live_data_poll_rate=2000), rules, reports_app())
        # no header of a request says who asks or how: neither is known before a login
        server = uvicorn.Server(
            uvicorn.Config(app, host, port, log_level="warning", proxy_headers=False, server_header=False)
        )
        threading.Thread(target=_end_with, args=(daemon, server), daemon=True).start()
        if held:
            threading.Thread(target=_end_after, args=(held, server), daemon=True).start()
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        print(f"Dagster on http://{shown}:{port} (Ctrl-C ends it)", flush=True)
        server.run()
        if daemon.poll() is not None:
            raise WebserverError(f"the Dagster daemon ended with code {daemon.returncode}: see its messages above")


@contextmanager
def code_servers(instance: DagsterInstance, workspace: Path) -> Iterator[Path]:
    """The code location in a process of its own, which webserver and daemon share; yields the workspace naming it.

    The file lies in Dagster's home: machines empty /tmp, and without it the daemon ends all its threads, though its
    process lives.
    """
    target = WorkspaceFileTarget([str(workspace)])
    with (
        ProxyServerManager(instance, target, code_server_log_level="WARNING") as servers,
        TemporaryDirectory(prefix=".running-", dir=use_home()) as folder,
    ):
        shared = Path(folder) / "workspace.yaml"
        shared.write_text(yaml.safe_dump({"load_from": servers.get_code_server_specs()}), encoding="utf-8")
        yield shared


@contextmanager
def running_daemon(instance: DagsterInstance, workspace: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon (sensors, schedules, queue, monitoring) as a process; it is gone at the end."""
    pipe_read, pipe_write = get_ipc_shutdown_pipe()
    daemon = open_ipc_subprocess(
        [
            *(sys.executable, "-m", "dagster._daemon", "run", "--shutdown-pipe", str(pipe_read)),
            *("--instance-ref", serialize_value(instance.get_ref()), "--workspace", str(workspace)),
        ],
        pass_fds=[pipe_read],
    )
    try:
        yield daemon
    finally:
        send_ipc_shutdown_message(pipe_write)
        try:
            daemon.wait(ENDING)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _end_with(daemon: subprocess.Popen[bytes], server: uvicorn.Server) -> None:
    """End the server when the daemon is gone: sensors that silently do not run are worse than a server that ended."""
    while not server.should_exit:
        try:
            daemon.wait(POLL)
        except subprocess.TimeoutExpired:
            continue
        server.should_exit = True


def _end_after(held: BinaryIO, server: uvicorn.Server) -> None:
    """End the server with the process at the other end, which may have been killed and could end nothing itself."""
    held.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
