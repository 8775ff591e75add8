"""Where a model and its figures come from: when, by whom, on what machine, in how long, from how many images.

    note_training(folder, history)             beside a bundle: history.json and provenance.json
    Provenance.of(folder, dataset.info)        of what is measured now, with what was noted when its model was trained
    rows(provenance)                           as a page says it: what nobody noted is "not recorded"

It lies beside what it is about and never in it: a model is the same model, and an evaluation the same evidence,
whenever and wherever it was made.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

from derm_ml import DermError, formats
from derm_ml.files import write_json
from derm_ml.model_folder import ModelFolder
from derm_ml.progress import EpochReport, duration

FILE = "provenance.json"  # in a model folder, and in the folder of an evaluation
NOT_RECORDED = "not recorded"


class ProvenanceError(DermError, ValueError):
    """The note of where something comes from is of a newer program."""


@dataclass(frozen=True, slots=True)
class Made:
    """One piece of work: when it ended (ISO 8601, UTC), who started it, on what machine, with which commit of this
    program, in how many seconds, and of a training whose answers it learned beside the labels and whether its images
    were streamed, which may change their order and so the weights.

    Empty is what was not noted.
    """

    at: str = ""
    by: str = ""
    machine: str = ""
    commit: str = ""
    seconds: float | None = None
    teacher: str = ""
    streamed: bool = False

    @classmethod
    def now(cls, seconds: float | None = None, teacher: str = "", streamed: bool = False) -> Self:
        """Work that ends here and now."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(at, user(), machine(), git_commit(), seconds, teacher, streamed)

    @property
    def day(self) -> str:
        """The date and time to the minute, as a reader reads it."""
        return f"{self.at[:10]} {self.at[11:16]} UTC" if self.at else NOT_RECORDED

    @property
    def took(self) -> str:
        """How long it took, as people say it."""
        return NOT_RECORDED if self.seconds is None else duration(self.seconds)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of one evaluation: how it was made, how its model was, and the images of each split of its dataset."""

    measured: Made = Made()
    trained: Made = Made()
    images: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ModelFolder, dataset: Mapping[str, Any]) -> Self:
        """Of what is measured now of the model in a folder; `dataset` is what dataset.json says."""
        return cls(Made.now(), trained_in(model), dict(dataset["sizes"]))

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, formats.PROVENANCE.stamped(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What was noted in a folder; nothing where no note lies there or it cannot be read.

        Raises `ProvenanceError` for a note of a newer program.
        """
        try:
            stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # no number rests on it
            return cls()
        if not isinstance(stored, Mapping):
            return cls()
        stored = formats.PROVENANCE.read(stored, folder / FILE, ProvenanceError)
        try:
            return cls(Made(**stored["measured"]), Made(**stored["trained"]), dict(stored["images"]))
        except (KeyError, TypeError, ValueError):
            return cls()


def note_training(
    model: ModelFolder, history: Sequence[EpochReport], teacher: str = "", streamed: bool = False
) -> None:
    """Keep the reports of all epochs, and that the training, by a `teacher` where there was one, ended now, having
    taken as long as they say; `streamed`: its images lay in a remote.

    The time of epochs before an interruption counts; what lay between does not.
    """
    write_json(model.history, [asdict(report) for report in history])
    Provenance(trained=Made.now(sum(report.seconds for report in history), teacher, streamed)).write(model.path)


def note_training_of(other: ModelFolder, model: ModelFolder) -> None:
    """Note that the network of a model was trained as that of another, which it takes over."""
    model.path.mkdir(parents=True, exist_ok=True)
    if other.history.exists():  # a registry keeps none
        shutil.copyfile(other.history, model.history)
    Provenance(trained=trained_in(other)).write(model.path)


def trained_in(model: ModelFolder) -> Made:
    """How the model in a folder was trained; nothing where that was not noted."""
    return Provenance.read(model.path).trained


@cache
def git_commit() -> str:
    """The commit of this program, or `unknown` outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def user() -> str:
    """Who runs this program, by the name the system has."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


@cache
def machine() -> str:
    """What computes here, not what it is called: processor, cores, memory, and the GPU where torch uses one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}, {memory:.0f} GB"]
    torch = sys.modules.get("torch")  # whoever trained has loaded it; nobody loads it to say so
    if torch is not None and torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return "; ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join(named[0].split()) if named and named[0] else platform.machine()


def rows(found: Provenance) -> dict[str, str]:
    """What a page says of it, line by line."""
    images = ", ".join(f"{split} {n}" for split, n in found.images.items())
    return {
        "Measured": when_and_by(found.measured),
        "Measured on": found.measured.machine or NOT_RECORDED,
        "Trained": when_and_by(found.trained),
        "Training time": found.trained.took,
        "Trained on": found.trained.machine or NOT_RECORDED,
        **({"Teacher": found.trained.teacher} if found.trained.teacher else {}),
        **({"Images in training": "streamed"} if found.trained.streamed else {}),
        "Images of the dataset": images or NOT_RECORDED,
    }


def when_and_by(made: Made) -> str:
    """Date, person and commit of a piece of work, in words."""
    by = f", by {made.by}" if made.by else ""
    return f"{made.day}{by}{f', commit {made.commit[:12]}' if made.commit else ''}"
