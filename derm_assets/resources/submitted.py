"""What SLURM and Ray have in common: a program that hands a training over and waits for its end."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from derm_assets.resources.trainer import LOOK_EVERY, Running
from derm_ml.sentences import WrongValue

_SHOWN = 10  # last lines of the job's output that an error repeats


class Submitted(Running):
    """A training that a program waits for: it ends with a status other than 0 where the training failed."""

    def __init__(self, waiting: subprocess.Popen[str], name: str, more: str, output: Path) -> None:
        """`name` says which job it is, `more` the command that knows more of it."""
        self._waiting, self._name, self._more, self._output = waiting, name, more, output

    def ended(self) -> bool:
        try:
            self._waiting.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            return False
        return True

    def why(self) -> str:
        status = self._waiting.returncode
        return f"{self._name} ended with status {status} (`{self._more}` says more); {self.printed()}" if status else ""

    def printed(self) -> str:
        """The last lines of what it printed, in one."""
        text = self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"it printed: {' '.join(lines[-_SHOWN:])}" if lines else "it printed nothing"


def require_programs(trainer: str, *programs: str, install: str) -> None:
    """Raise `WrongValue` for a program that is not on this machine."""
    for program in programs:
        if not shutil.which(program):
            raise WrongValue(f"DERM_TRAINER is {trainer}, but {program} is not on this machine: {install}")


def options_of(variable: str, text: str) -> list[str]:
    """The options in a setting, as a shell takes them. Raises `WrongValue` naming the setting."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise WrongValue(f"{variable} is '{text}', which is no list of options ({error}): close every quote") from None
