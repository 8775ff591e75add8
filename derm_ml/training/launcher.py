"""Starts the processes that train one model together on the devices of this machine, and ends them together.

    if devices := devices_to_start(recipe):
        train_on(devices, [sys.executable, "-m", "derm_ml.cli", *sys.argv[1:]])     # each runs the same command

What torchrun does for a command, with one sentence where a process ends before the others. Over several machines
torchrun itself starts the processes, which a person or SLURM starts there.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from derm_ml import DermError
from derm_ml.places import VARIABLES
from derm_ml.ranks import SAID, STARTED_BY_US, SeveralProcessesError, this_rank
from derm_ml.recipe import Recipe
from derm_ml.training.settings import TrainingRecipe

LOOK_EVERY = 0.1  # seconds
LAST_WORDS = 3.0  # seconds in which the others may still say why they end
GRACE = 5.0  # seconds between asking a process to end and killing it


class TrainingProcessError(DermError, RuntimeError):
    """A process of a training ended before its work was done; the message says which and why."""


def devices_to_start(recipe: Recipe) -> int:
    """How many processes have to be started for the recipe, 0 where this one trains.

    Raises `SeveralProcessesError` for a recipe over several machines that nobody started on them.
    """
    if not isinstance(recipe, TrainingRecipe) or this_rank().world > 1:
        return 0
    hardware = recipe.hardware
    if hardware.nodes > 1:
        raise SeveralProcessesError(
            f"hardware.nodes is {hardware.nodes}: start the command on each machine with torchrun --nnodes "
            f"{hardware.nodes} --nproc-per-node {hardware.devices} --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m "
            f"derm_ml.cli fit …, all with the same {VARIABLES['out']}; in Dagster DERM_TRAINER=slurm does"
        )
    return hardware.devices if hardware.devices > 1 else 0


def train_on(devices: int, command: Sequence[str]) -> None:
    """Run `command` once for each device, told which it is; returns when all have ended well.

    Raises `TrainingProcessError` with the reason of the one that ended first, after ending the others.
    """
    with tempfile.TemporaryDirectory(prefix="derm-ranks-") as folder, _started(devices, command, Path(folder)) as ranks:
        while any(rank.poll() is None for rank in ranks) and not any(rank.poll() for rank in ranks):
            time.sleep(LOOK_EVERY)
        if not any(rank.poll() for rank in ranks):
            return
        deadline = time.monotonic() + LAST_WORDS
        while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
            time.sleep(LOOK_EVERY)
        raise TrainingProcessError(_reason([rank.poll() for rank in ranks], Path(folder)))


def _reason(codes: Sequence[int | None], folder: Path) -> str:
    """The sentence of the process that began it: one that was killed, else one that said why."""
    for number, code in enumerate(codes, start=1):
        if code is not None and code < 0:
            return killed(f"process {number} of {len(codes)}", -code)
    for said in sorted(folder.iterdir()):
        return said.read_text(encoding="utf-8")
    number, code = next((n, code) for n, code in enumerate(codes, start=1) if code)
    return f"process {number} of {len(codes)} ended with status {code}; what it printed stands above"


def killed(who: str, number: int) -> str:
    """The sentence about a process of a training that a signal ended."""
    memory = ", most likely by the system for want of memory" if number == signal.SIGKILL else ""
    return (
        f"{who} was ended by {signal.Signals(number).name}{memory}, and the training with it; run it again to go on "
        "from the last checkpoint, with a smaller batch_size or fewer workers where memory was short"
    )


@contextmanager
def _started(devices: int, command: Sequence[str], folder: Path) -> Iterator[list[subprocess.Popen]]:
    """One process a device, each in our process group. They end with the block, and with this process: when it is
    gone, their standard input ends."""
    shared = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}  # nobody else needs to reach them
    shared |= {
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        STARTED_BY_US: "1",
    }
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // devices))}  # torch would take all cores for each
    ranks: list[subprocess.Popen] = []
    try:
        for number in range(devices):
            own = {"RANK": str(number), "LOCAL_RANK": str(number), SAID: str(folder / f"{number}.txt")}
            environment = threads | os.environ | shared | own
            ranks.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE))
        yield ranks
    finally:
        _end(ranks)


def _end(ranks: Sequence[subprocess.Popen]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    deadline = time.monotonic() + GRACE
    for rank in ranks:
        try:
            rank.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()
        if rank.stdin:
            rank.stdin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
