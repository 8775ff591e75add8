"""A training as a job of SLURM: `sbatch` hands it over and waits for its end, `scancel` ends it.

The machines of the cluster see this project, its Python, DERM_DATA and DERM_OUT under the same paths. `DERM_SLURM`
holds what sbatch is to be told besides: partition, memory, time, GPUs of one machine. Where a recipe wants several
machines, `srun` starts torchrun on each of them.
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
from derm_ml.jobs import Job
from derm_ml.places import SLURM, python_path
from derm_ml.ranks import STARTED_BY_US
from derm_ml.training.launcher import TrainingProcessError
from derm_ml.training.settings import Hardware, TrainingRecipe

# where the processes of several machines find each other: on the machine that runs the script, the first of the job,
# at a port below those that Linux gives away by itself, another one for each job
_MEETING = (
    '--rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$(uname -n):$((20000 + SLURM_JOB_ID % 10000))"'
)
# srun does not take it over from sbatch
_CORES = '${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"}'


class SlurmTrainer(SeparateTrainer):
    """Trains in a job of SLURM, one for each model folder at a time."""

    options: str = ""  # of sbatch

    @contextmanager
    def running(self, module: str, job: Path, variables: Mapping[str, str], name: str) -> Iterator[Running]:
        """Raises `WrongValue` where SLURM's programs are missing, `TrainingProcessError` where it takes no job."""
        require_programs("slurm", "sbatch", "scancel", install="start Dagster where SLURM's programs are")
        script, output = job.with_name("job.sh"), job.with_name("output.txt")
        recipe = Job.read(job).recipe
        hardware = recipe.hardware if isinstance(recipe, TrainingRecipe) else Hardware()
        command = _command(hardware, module, job)
        script.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
        # `singleton`: it begins when no job of this name is left, for both would write into the folder
        own = ["--job-name", name, "--dependency", "singleton", "--output", str(output)]
        if hardware.nodes > 1:  # torchrun starts the other processes of a machine
            own += ["--nodes", str(hardware.nodes), "--ntasks-per-node", "1"]
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


def _command(hardware: Hardware, module: str, job: Path) -> str:
    """What the script of the job runs: the training, which starts its own processes on one machine; else srun, which
    starts torchrun on each machine."""
    training = shlex.join(["-m", module, str(job)])
    python, nodes = shlex.quote(sys.executable), hardware.nodes
    if nodes == 1:
        return f"{python} {training}"
    return (
        f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --kill-on-bad-exit=1 {_CORES} {python} -m "
        f"torch.distributed.run --nnodes={nodes} --nproc-per-node={hardware.devices} {_MEETING} {training}"
    )


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
