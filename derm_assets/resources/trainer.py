"""Where a model is trained, as `DERM_TRAINER` says.

process      in the process of the Dagster step, on one device
subprocess   in a process of its own, which may be killed for want of memory without taking the run along, and which
             starts one process for each device the recipe wants
slurm        in a job of SLURM (slurm.py)
ray          in a job of Ray (ray_jobs.py)
kubernetes   in a Job of Kubernetes (kubernetes_jobs.py)

`fit` is all an asset knows of training. What sends the work elsewhere starts one command there, `python -m
derm_assets.fit_job JOB.json`, and says whether it has ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg

from derm_assets.display import say
from derm_ml.jobs import Job
from derm_ml.model_folder import ModelFolder
from derm_ml.places import KUBERNETES_JOB, RAY, SLURM, python_path, setting_path
from derm_ml.progress import EpochReport, OnEpoch, reading
from derm_ml.ranks import SAID, STARTED_BY_US
from derm_ml.sentences import WrongValue, unknown
from derm_ml.training.launcher import GRACE, TrainingProcessError, killed

SETTING = "DERM_TRAINER"
ENTRY = "derm_assets.fit_job"  # what a process of its own runs
LOOK_EVERY = 0.2  # seconds between two looks for finished epochs


class Trainer(dg.ConfigurableResource):
    """Trains in the process of the step, on one device."""

    def fit(self, context: dg.AssetExecutionContext, job: Job, on_epoch: OnEpoch) -> Path:
        """Train (or resume) the job; returns the path of the finished bundle."""
        with reading(lambda text: say(context, text)):
            return job.train(on_epoch)


class Running(ABC):
    """A training somewhere else."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether it has ended, after a moment of waiting."""

    @abstractmethod
    def why(self) -> str:
        """Of one that has ended: why it failed; empty where it did not."""


class SeparateTrainer(Trainer):
    """Trains in a process of its own, wherever `running` starts it; epochs are messages of Dagster Pipes in files."""

    def fit(self, context: dg.AssetExecutionContext, job: Job, on_epoch: OnEpoch) -> Path:
        """Raises `TrainingProcessError` with the sentence the process left, or that it was killed."""
        job.folder.mkdir(parents=True, exist_ok=True)
        # beside the model: where the process can write that, it can write its messages
        with tempfile.TemporaryDirectory(prefix=".job-", dir=job.folder) as temporary:
            folder = Path(temporary)
            path, left = folder / "job.json", folder / "said.txt"
            job.write(path)
            injector = dg.PipesFileContextInjector(str(folder / "context.json"))
            reader = dg.PipesFileMessageReader(str(folder / "messages.txt"))
            heard = 0
            with dg.open_pipes_session(context, context_injector=injector, message_reader=reader) as pipes:
                variables = {**pipes.get_bootstrap_env_vars(), SAID: str(left)}
                with self.running(ENTRY, path, variables, f"derm-{job.task}-{job.folder.name}") as running:
                    while not running.ended():
                        heard += _tell(pipes.get_custom_messages()[heard:], on_epoch)
                    why = running.why()
            _tell(pipes.get_custom_messages()[heard:], on_epoch)  # what came with its end
            if why:
                raise TrainingProcessError(left.read_text(encoding="utf-8") if left.exists() else why)
        return ModelFolder(job.folder).bundle

    @abstractmethod
    def running(
        self, module: str, job: Path, variables: Mapping[str, str], name: str
    ) -> AbstractContextManager[Running]:
        """Start `python -m module job` with those variables; it ends with the block. `name` is the model's."""


class SubprocessTrainer(SeparateTrainer):
    """Trains in a process group of its own, on as many devices of this machine as the recipe wants."""

    @contextmanager
    def running(self, module: str, job: Path, variables: Mapping[str, str], name: str) -> Iterator[Running]:
        with _process([sys.executable, "-m", module, str(job)], variables) as process:
            yield OwnProcess(process)


class OwnProcess(Running):
    """A process of this machine."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def ended(self) -> bool:
        try:
            self._process.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            return False
        return True

    def why(self) -> str:
        code = self._process.returncode
        if code < 0:
            return killed("the training's process", -code)
        said = f"the training's process ended with status {code}; what it printed is in the run's compute log"
        return said if code else ""


def _slurm() -> Trainer:
    from derm_assets.resources.slurm import SlurmTrainer

    return SlurmTrainer(options=os.environ.get(SLURM, "").strip())


def _ray() -> Trainer:
    from derm_assets.resources.ray_jobs import RayTrainer

    return RayTrainer(options=os.environ.get(RAY, "").strip())


def _kubernetes() -> Trainer:
    from derm_assets.resources.kubernetes_jobs import KubernetesTrainer

    return KubernetesTrainer(manifest=str(setting_path(KUBERNETES_JOB) or ""))


TRAINERS: dict[str, Callable[[], Trainer]] = {
    "process": Trainer, "subprocess": SubprocessTrainer, "slurm": _slurm, "ray": _ray, "kubernetes": _kubernetes,
}  # fmt: skip


def trainer_from_environment() -> Trainer:
    """The trainer that `DERM_TRAINER` names. Raises `WrongValue` for one that there is not."""
    name = os.environ.get(SETTING, "").strip() or "process"
    if name not in TRAINERS:
        raise WrongValue(f"{SETTING}: {unknown('trainer', name, TRAINERS, 'there are')}")
    return TRAINERS[name]()


@contextmanager
def _process(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    """The command in a process group of its own, all of which ends with the block."""
    environment = {**os.environ, "PYTHONPATH": python_path(), STARTED_BY_US: "1", **variables}
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


def _tell(messages: Sequence[Any], on_epoch: OnEpoch) -> int:
    for message in messages:
        on_epoch(EpochReport(**message))
    return len(messages)
