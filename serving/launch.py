"""How the server of a Bento is started: the command and the environment of its process."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
from pathlib import Path

from derm_ml import DermError
from derm_ml.places import BENTOML_HOME, VARIABLES, setting_path
from serving.released import bento_home, derm_home

FOLLOW = "DERM_FOLLOW"  # set: the service follows the release file and exchanges its model when that changes
SHADOW = "DERM_SHADOW"  # the tag of a Bento whose model is asked in the shadow
RUN = "DERM_RUN"  # where servers keep what they write while they run; by default in the BentoML home
HOSTS = "DERM_HOSTS"  # names, separated by commas, under which the service may be asked besides those of this machine
MODELS = "DERM_SUITE_MODELS"  # how many models a suite keeps in memory
KEPT_MODELS = 3  # by default; a process holds some 200 MB, and a ResNet-18 with its session some 100 MB more


class CannotServe(DermError):
    """The service cannot be started as asked; the message says what to change."""


def models_kept() -> int:
    """How many models a suite keeps in memory. Raises `CannotServe` for what is no such number."""
    given = os.environ.get(MODELS, "").strip() or str(KEPT_MODELS)
    if not given.isdecimal() or not 1 <= int(given[:6]) <= 1000:
        raise CannotServe(f"{MODELS} is '{given[:20]}'; write how many models stay in memory, such as {KEPT_MODELS}")
    return int(given)


def serve_command(tag: str, host: str, port: int) -> list[str]:
    """`bentoml serve` of this Python, for a process without a shell; without a `tag` of a Bento, of the suite."""
    what = [tag] if tag else ["serving.suite_service:svc", "--working-dir", str(Path(__file__).resolve().parents[1])]
    return [sys.executable, "-m", "bentoml", "serve", *what, "--host", host, "--port", str(port)]


def serve_environment(run: Path) -> dict[str, str]:
    """The environment of one server, with the folder `run` of its own.

    A starting server empties `prometheus_multiproc_dir` of its BENTOML_HOME, also while another one writes its
    metrics there: so each server gets a home of its own, in which models and Bentos are links to the store.
    """
    run.mkdir(parents=True, exist_ok=True)
    for part in ("models", "bentos"):
        store, link = bento_home() / part, run / part
        if not store.is_dir():  # the store of an image cannot be written to, and is there
            store.mkdir(parents=True)
        if not link.is_symlink():
            link.symlink_to(store, target_is_directory=True)
    # the home by its whole path: a service that runs here finds the secret of its index there
    return {**os.environ, BENTOML_HOME: str(run), VARIABLES["home"]: str(derm_home())}


def own_folder(task: str, port: int) -> Path:
    """A folder for the server this process is about to become; those of servers that are gone are removed."""
    servers = setting_path(RUN) or bento_home() / "servers"
    for folder in servers.glob("*-*-*"):
        owner = folder.name.rpartition("-")[2]
        if owner.isdecimal() and not _lives(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)  # the links to the store in it go, the store stays
    return servers / f"{task}-{port}-{os.getpid()}"


def refuse_used_port(host: str, port: int) -> None:
    """Raises `CannotServe` if nobody can listen there: no IP address, the port is taken, or not allowed."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise CannotServe(f"'{host}' is no IP address; use 127.0.0.1, or 0.0.0.0 for all of this machine's") from None
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server: a port just left is free
        try:
            probe.bind((host, port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise CannotServe(f"cannot listen on {host}, port {port}: {why}; choose another --port") from None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
