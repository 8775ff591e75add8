"""Which of the processes that train one model together this is.

torchrun says it in the environment, and so does the launcher of `derm fit` (training/launcher.py). The first of them,
which leads, alone writes: checkpoints, the bundle, what is printed.

A process that derm starts for a training ends when the one that started it is gone, and leaves its last sentence where
that one reads it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from derm_ml import DermError

# what other launchers set in every process they start; none of them says enough to train together
_OTHER_WORLDS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_TORCHRUN = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

STARTED_BY_US = "DERM_STARTED_BY"  # set where standard input ends when the process that started this one is gone
SAID = "DERM_SAID"  # the file for the sentence with which a process ends
_TIDY = 10.0  # seconds a process gets to end what it writes
_TERMINATED = 128 + signal.SIGTERM  # as a shell counts


class SeveralProcessesError(DermError, RuntimeError):
    """A training was started as several processes where it cannot be one, or as one where several are wanted."""


class LostProcessError(DermError, RuntimeError):
    """Another process of the same training has ended: that one knows why."""


@dataclass(frozen=True, slots=True)
class Rank:
    """This process among `world`, `local_world` of them on this machine; `number` counts from 0 over all machines."""

    number: int = 0
    world: int = 1
    local_world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.number == 0

    @property
    def nodes(self) -> int:
        """On how many machines the processes run."""
        return self.world // self.local_world


def this_rank() -> Rank:
    """What the environment says; a process whose launcher does not say enough stands alone (`refuse_strangers`)."""
    if _size("WORLD_SIZE") > 1 and all(os.environ.get(name) for name in _TORCHRUN):
        return Rank(_size("RANK"), _size("WORLD_SIZE"), _size("LOCAL_WORLD_SIZE"))
    return Rank()


def refuse_strangers() -> None:
    """Raise `SeveralProcessesError` if a launcher started several of this process that cannot find each other.

    Each would train the whole model, and all would write into one folder.
    """
    if this_rank().world > 1:
        return
    for name in ("WORLD_SIZE", *_OTHER_WORLDS):
        if (size := _size(name)) > 1 and (name == "WORLD_SIZE" or "RANK" not in os.environ):
            raise SeveralProcessesError(
                f"{name}={size}: {size} processes that cannot find each other would each train the whole model into "
                "the same folder; start one process, or several with torchrun"
            )


def refuse_several_processes(what: str) -> None:
    """Raise `SeveralProcessesError` if this process is one of several: `what` is the work of one alone."""
    refuse_strangers()
    if (world := this_rank().world) > 1:
        raise SeveralProcessesError(
            f"WORLD_SIZE={world}: {what} is the work of one process, and {world} would write into the same folder; "
            "run the command once, without torchrun"
        )


def end_with_starter() -> None:
    """Let this process end, tidily, when the one that started it for a training asks it to or is gone."""
    if os.environ.get(STARTED_BY_US):
        signal.signal(signal.SIGTERM, _leave)
        threading.Thread(target=_wait_for_its_end, name="end with the starter", daemon=True).start()
    elif this_rank().world > 1:
        signal.signal(signal.SIGTERM, _leave_with_the_others)


def _wait_for_its_end() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_TIDY)
    os._exit(_TERMINATED)  # it waits for something that will not come


def _leave(*_: object) -> None:
    raise SystemExit(_TERMINATED)


def _leave_with_the_others(*_: object) -> None:
    """torchrun ends all processes where one failed, often before the others have noticed."""
    rank = this_rank()
    told_starter(
        LostProcessError(
            f"process {rank.number + 1} of {rank.world} was told to end: another one had failed, or the job was "
            "cancelled or out of time; run it again to go on from the last checkpoint"
        )
    )
    raise SystemExit(_TERMINATED)


def told_starter(error: DermError) -> bool:
    """Leave the error's sentence for the process that started this one; False where nobody reads it."""
    path = os.environ.get(SAID)
    if not path:
        return False
    if not isinstance(error, LostProcessError):
        Path(path).write_text(str(error), encoding="utf-8")
    elif not os.environ.get(STARTED_BY_US):  # of several machines all leave it in one file: the reason, if one said it
        with suppress(FileExistsError), Path(path).open("x", encoding="utf-8") as file:
            file.write(str(error))
    return True


def _size(name: str) -> int:
    """The number a variable holds; 0 where it holds none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
