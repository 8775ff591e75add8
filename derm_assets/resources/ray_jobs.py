"""A training as a job of Ray: `ray job submit` hands it over and waits for its end, `ray job stop` ends it.

`RAY_ADDRESS` is Ray's own setting of where its cluster is, such as http://head:8265. `DERM_RAY` holds what `ray job
submit` is to be told besides, such as --entrypoint-num-gpus=1. The machines of the cluster see this project, its
Python, DERM_DATA, DERM_OUT and DERM_HOME under the same paths. No secret is passed on: whoever may ask the cluster
reads a job's variables.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from derm_assets.resources.submitted import Submitted, options_of, require_programs
from derm_assets.resources.trainer import Running, SeparateTrainer
from derm_ml.places import RAY, VARIABLES, installation, python_path
from derm_ml.training.launcher import TrainingProcessError

_NONE = "does not exist"  # what Ray says of a job that it does not know


class RayTrainer(SeparateTrainer):
    """Trains in a job of Ray, one for each model folder at a time."""

    options: str = ""  # of `ray job submit`

    @contextmanager
    def running(self, module: str, job: Path, variables: Mapping[str, str], name: str) -> Iterator[Running]:
        """Raises `WrongValue` where Ray's program is missing, `TrainingProcessError` where it cannot be reached."""
        require_programs("ray", "ray", install="pip install 'derm-platform[ray]'")
        here = installation()
        passed = {variable: str(getattr(here, kind)) for kind, variable in VARIABLES.items()}
        passed |= {"PYTHONPATH": python_path(), **variables}
        settings, output = job.with_name("runtime.yaml"), job.with_name("output.txt")
        settings.write_text(yaml.safe_dump({"env_vars": passed}), encoding="utf-8")
        own = ["--submission-id", name, "--runtime-env", str(settings)]
        command = [sys.executable, "-m", module, str(job)]
        asked = ["ray", "job", "submit", *options_of(RAY, self.options), *own, "--", *command]
        _forget(name)  # of a run before, and of one that was killed and could not end it
        with (
            output.open("w", encoding="utf-8") as file,
            subprocess.Popen(asked, stdout=file, stderr=subprocess.STDOUT, text=True) as sent,
        ):
            try:
                yield Submitted(sent, f"the job {name} of Ray", f"ray job logs {name}", output)
            finally:
                if sent.poll() is None:
                    _ray("stop", name)
                    sent.wait()


def _forget(name: str) -> None:
    """End and remove a job of that name, if there is one."""
    if _ray("stop", name):
        _ray("delete", name)


def _ray(verb: str, name: str) -> bool:
    """Ask Ray about a job; False where it knows none of that name."""
    done = subprocess.run(["ray", "job", verb, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode and _NONE not in done.stdout:
        why = (done.stdout.strip().splitlines() or ["it said nothing"])[-1]
        raise TrainingProcessError(f"`ray job {verb} {name}` failed, a job may still run: {why}")
    return not done.returncode
