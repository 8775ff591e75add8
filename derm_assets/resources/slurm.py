"""A training as a job of SLURM: `sbatch` hands it over and waits for its end, `scancel` ends it.

The machines of the cluster see this project, its Python, DERM_DATA and DERM_OUT under the same paths. `DERM_SLURM`
holds what sbatch is to be told besides: partition, memory, time, GPUs.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from derm_assets.resources.submitted import Submitted, options_of, require_programs
from derm_assets.resources.trainer import Running, SeparateTrainer
from derm_ml.places import SLURM, python_path
from derm_ml.ranks import STARTED_BY_US
from derm_ml.training.launcher import TrainingProcessError


class SlurmTrainer(SeparateTrainer):
    """Trains in a job of SLURM, one for each model folder at a time."""

    options: str = ""  # of sbatch

    @contextmanager
    def running(self, module: str, job: Path, variables: Mapping[str, str], name: str) -> Iterator[Running]:
        """Raises `WrongValue` where SLURM's programs are missing, `TrainingProcessError` where it takes no job."""
        require_programs("slurm", "sbatch", "scancel", install="start Dagster where SLURM's programs are")
        script, output = job.with_name("job.sh"), job.with_name("output.txt")
        command = shlex.join([sys.executable, "-m", module, str(job)])
        script.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
        # `singleton`: it begins when no job of this name is left, for both would write into the folder
        own = ["--job-name", name, "--dependency", "singleton", "--output", str(output)]
        asked = ["sbatch", "--parsable", "--wait", *options_of(SLURM, self.options), *own, str(script)]
        environment = {**os.environ, "PYTHONPATH": python_path(), **variables}
        environment.pop(STARTED_BY_US, None)  # it does not read our end from its standard input
        _cancel("--name", name)  # of a run that was killed and could not end it
        with subprocess.Popen(
            asked, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as sent:
            number = ""
            try:
                number = _number(sent)
                yield Submitted(sent, f"job {number} of SLURM", f"sacct -j {number}", output)
            finally:
                if sent.poll() is None:
                    _cancel(*([number] if number else ["--name", name]))
                    sent.wait()


def _number(sent: subprocess.Popen[str]) -> str:
    """The number sbatch says once SLURM has taken the job."""
    assert sent.stdout is not None
    assert sent.stderr is not None
    if number := sent.stdout.readline().strip().partition(";")[0]:
        return number
    sent.wait()
    raise TrainingProcessError(f"SLURM took no job: {sent.stderr.read().strip() or 'sbatch said nothing'}")


def _cancel(*which: str) -> None:
    done = subprocess.run(["scancel", "--user", getpass.getuser(), *which], capture_output=True, text=True)
    if done.returncode:
        raise TrainingProcessError(f"scancel {' '.join(which)} failed, a job may still run: {done.stderr.strip()}")
