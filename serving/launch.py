"""How the server of a Bento is started: the command and the environment of its process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from serving.released import bento_home, derm_home


def serve_command(tag: str, host: str, port: int) -> list[str]:
    """`bentoml serve` of this Python, for a process without a shell."""
    return [sys.executable, "-m", "bentoml", "serve", tag, "--host", host, "--port", str(port)]


def serve_environment(run: Path) -> dict[str, str]:
    """The environment of one server, with the folder `run` of its own.

    A starting server empties `prometheus_multiproc_dir` of its BENTOML_HOME, also while another one writes its
    metrics there: so each server gets a home of its own, in which models and Bentos are links to the store.
    """
    run.mkdir(parents=True, exist_ok=True)
    for part in ("models", "bentos"):
        store, link = bento_home() / part, run / part
        store.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(store, target_is_directory=True)
    # the home by its whole path: a service that runs here finds the secret of its index there
    return {**os.environ, "BENTOML_HOME": str(run), "DERM_HOME": str(derm_home())}
