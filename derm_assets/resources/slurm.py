"""A training as a job of SLURM: `sbatch` hands it over and waits for its end, `scancel` ends it.

The machines of the cluster see this project, its Python, DERM_DATA and DERM_OUT under the same paths. `DERM_SLURM`
holds what sbatch is to be told besides: partition, memory, time, GPUs.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from derm_assets.resources.trainer import LOOK_EVERY, Running, SeparateTrainer
from derm_ml.places import SLURM, python_path
from derm_ml.ranks import STARTED_BY_US
from derm_ml.sentences import WrongValue
from derm_ml.training.launcher import TrainingProcessError

_PROGRAMS = ("sbatch", "scancel")
_SHOWN = 10  # last lines of the job's output that an error repeats


class SlurmTrainer(SeparateTrainer):
    """Trains in a job of SLURM, one for each model folder at a time."""

    options: str = ""  # of sbatch

    @contextmanager
    def running(self, module: str, job: Path, variables: Mapping[str, str], name: str) -> Iterator[Running]:
        """Raises `WrongValue` where SLURM's programs are missing, `TrainingProcessError` where it takes no job."""
        for program in _PROGRAMS:
            if not shutil.which(program):
                raise WrongValue(
                    f"DERM_TRAINER is slurm, but {program} is not on this machine: start Dagster where SLURM's "
                    "programs are, or choose another trainer"
                )
        script, output = job.with_name("job.sh"), job.with_name("output.txt")
        command = shlex.join([sys.executable, "-m", module, str(job)])
        script.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
        _cancel("--name", name)  # of a run that was killed and could not end it
        # `singleton`: it begins when no job of this name is left, for both would write into the folder
        own = ["--job-name", name, "--dependency", "singleton", "--output", str(output)]
        asked = ["sbatch", "--parsable", "--wait", *_options(self.options), *own, str(script)]
        environment = os.environ | {"PYTHONPATH": python_path()} | variables
        environment.pop(STARTED_BY_US, None)  # it does not read our end from its standard input
        with subprocess.Popen(
            asked, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as sent:
            assert sent.stdout is not None
            number = ""
            try:
                number = sent.stdout.readline().strip().partition(";")[0]
                yield SlurmJob(sent, number, output)
            finally:
                if sent.poll() is None:
                    _cancel(*([number] if number else ["--name", name]))
                    sent.wait()


class SlurmJob(Running):
    """A job that sbatch waits for."""

    def __init__(self, sent: subprocess.Popen[str], number: str, output: Path) -> None:
        self._sent, self._number, self._output = sent, number, output

    def ended(self) -> bool:
        try:
            self._sent.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            return False
        return True

    def why(self) -> str:
        if not self._sent.returncode:
            return ""
        assert self._sent.stderr is not None
        if not self._number:
            return f"SLURM took no job: {self._sent.stderr.read().strip() or 'sbatch said nothing'}"
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines() if self._output.exists() else []
        said = " ".join(lines[-_SHOWN:]) or "nothing"
        return (
            f"job {self._number} of SLURM ended with status {self._sent.returncode} (`sacct -j {self._number}` says "
            f"more); it printed: {said}"
        )


def _options(text: str) -> Sequence[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise WrongValue(f"{SLURM} is '{text}', which is no list of options ({error}): close every quote") from None


def _cancel(*which: str) -> None:
    done = subprocess.run(["scancel", "--user", getpass.getuser(), *which], capture_output=True, text=True)
    if done.returncode:
        raise TrainingProcessError(f"scancel {' '.join(which)} failed, a job may still run: {done.stderr.strip()}")
