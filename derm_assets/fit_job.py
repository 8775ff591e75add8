"""The process a training has to itself: `python -m derm_assets.fit_job JOB.json`, which Dagster reads along.

Epochs are messages of Dagster Pipes, so that it is the same command wherever it is started. Where the recipe wants
several devices of this machine, it starts itself once for each; the first of them tells.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from dagster_pipes import PipesContext, open_dagster_pipes

from derm_ml import DermError
from derm_ml.entrance import enter
from derm_ml.jobs import Job
from derm_ml.progress import reading, silent
from derm_ml.ranks import end_with_starter, this_rank, told_starter
from derm_ml.training.launcher import devices_to_start, train_on


class _ToDagster(logging.Handler):
    """What the library warns of, in the log of the run."""

    def __init__(self, pipes: PipesContext) -> None:
        super().__init__(logging.WARNING)
        self._pipes = pipes

    def emit(self, record: logging.LogRecord) -> None:
        self._pipes.log.warning(record.getMessage())


@contextmanager
def _read_along() -> Iterator[PipesContext]:
    with open_dagster_pipes() as pipes:
        handler = _ToDagster(pipes)
        logging.getLogger("derm_ml").addHandler(handler)
        try:
            yield pipes
        finally:
            logging.getLogger("derm_ml").removeHandler(handler)


def do(path: Path) -> None:
    """Do the job. Raises `DermError` with what a person has to know."""
    job = Job.read(path)
    if devices := devices_to_start(job.recipe):
        train_on(devices, [sys.executable, "-m", "derm_assets.fit_job", str(path)])
    elif not this_rank().leads:
        job.train(silent)
    else:
        failed: DermError | None = None
        with _read_along() as pipes, reading(pipes.log.info):
            try:
                job.train(lambda report: pipes.report_custom_message(asdict(report)))
            except DermError as error:  # said once, by who started this process
                failed = error
        if failed:
            raise failed


def main() -> None:
    """Do the job a path names; an error with a reason is one sentence, for the process that started this one."""
    try:
        enter()
        end_with_starter()
        if len(sys.argv) != 2:
            raise DermError("usage: python -m derm_assets.fit_job JOB.json")
        do(Path(sys.argv[1]))
    except DermError as error:
        if not told_starter(error):
            print(f"derm: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
