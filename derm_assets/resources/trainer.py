"""Where a model is trained, as `DERM_TRAINER` says.

process      in the process of the Dagster step, on one device
subprocess   in a process of its own, which may be killed for want of memory without taking the run along, and which
             starts one process for each device the recipe wants

`fit` is all an asset knows of training, so a class of the same shape can send the work to another machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg

from derm_assets.display import say
from derm_ml.jobs import Job
from derm_ml.model_folder import ModelFolder
from derm_ml.places import python_path
from derm_ml.progress import EpochReport, OnEpoch, reading
from derm_ml.ranks import SAID, STARTED_BY_US
from derm_ml.sentences import WrongValue, unknown
from derm_ml.training.launcher import GRACE, TrainingProcessError, killed

SETTING = "DERM_TRAINER"
_LOOK_EVERY = 0.2  # seconds between two looks for finished epochs


class Trainer(dg.ConfigurableResource):
    """Trains in the process of the step, on one device."""

    def fit(self, context: dg.AssetExecutionContext, job: Job, on_epoch: OnEpoch) -> Path:
        """Train (or resume) the job; returns the path of the finished bundle."""
        with reading(lambda text: say(context, text)):
            return job.train(on_epoch)


class SubprocessTrainer(Trainer):
    """Trains in a process group of its own, on as many devices of this machine as the recipe wants."""

    def fit(self, context: dg.AssetExecutionContext, job: Job, on_epoch: OnEpoch) -> Path:
        """Raises `TrainingProcessError` with the sentence the process left, or that it was killed."""
        reader, injector = dg.PipesTempFileMessageReader(), dg.PipesTempFileContextInjector()
        with tempfile.TemporaryDirectory(prefix="derm-job-") as folder:
            path, said = Path(folder) / "job.json", Path(folder) / "said.txt"
            job.write(path)
            heard = 0
            with dg.open_pipes_session(context, context_injector=injector, message_reader=reader) as pipes:
                variables = {**pipes.get_bootstrap_env_vars(), SAID: str(said)}
                with _process([sys.executable, "-m", "derm_assets.fit_job", str(path)], variables) as process:
                    while not _ended(process):
                        heard += _tell(pipes.get_custom_messages()[heard:], on_epoch)
            _tell(pipes.get_custom_messages()[heard:], on_epoch)  # what came with its end
            if process.returncode:
                raise TrainingProcessError(_why(process.returncode, said))
        return ModelFolder(job.folder).bundle


TRAINERS: dict[str, type[Trainer]] = {"process": Trainer, "subprocess": SubprocessTrainer}


def trainer_from_environment() -> Trainer:
    """The trainer that `DERM_TRAINER` names. Raises `WrongValue` for one that there is not."""
    name = os.environ.get(SETTING, "").strip() or "process"
    if name not in TRAINERS:
        raise WrongValue(f"{SETTING}: {unknown('trainer', name, TRAINERS, 'there are')}")
    return TRAINERS[name]()


@contextmanager
def _process(command: Sequence[str], variables: dict[str, str]) -> Iterator[subprocess.Popen]:
    """The command in a process group of its own, all of which ends with the block."""
    environment = os.environ | {"PYTHONPATH": python_path(), STARTED_BY_US: "1"} | variables
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()  # it ends what it started
        with suppress(subprocess.TimeoutExpired):
            process.wait(2 * GRACE)
    with suppress(ProcessLookupError):  # nothing was left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def _ended(process: subprocess.Popen) -> bool:
    try:
        process.wait(_LOOK_EVERY)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tell(messages: Sequence[Any], on_epoch: OnEpoch) -> int:
    for message in messages:
        on_epoch(EpochReport(**message))
    return len(messages)


def _why(code: int, said: Path) -> str:
    if said.exists():
        return said.read_text(encoding="utf-8")
    if code < 0:
        return killed("the training's process", -code)
    return f"the training's process ended with status {code}; what it printed is in the run's compute log"
