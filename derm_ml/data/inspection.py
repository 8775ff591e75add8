"""What a folder would be read as, and what is in the way, before anything is copied or prepared: `derm inspect`.

look(task, folder, settings)       → Look: layouts, labels, what is in the way, and the account of every file
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from derm_ml.data.account import account_of, require_matching, spellings
from derm_ml.data.decoded import decoded
from derm_ml.data.splits import Settled
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.task import PrepareSettings, Task

TRIED = 24  # images that are decoded, spread over all: enough to notice a kind of damage, and a matter of seconds
_SHOWN = 4  # reasons that are told one by one


@dataclass(frozen=True, slots=True)
class Look:
    """One task's view of a folder. `refused` says why it cannot be read at all; else `reading` is what it found."""

    task: str
    refused: str = ""
    reading: Reading | None = None
    layouts: Mapping[str, str] = field(default_factory=dict)  # source → layout
    labels: Mapping[str, int] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    in_the_way: tuple[str, ...] = ()


def inspected(task: Task, folder: Path, settings: PrepareSettings) -> Look:
    """Read the names and lists of a folder, and decode a few of its images; nothing is written."""
    try:
        reading = task.read(folder, settings)
        require_matching(reading, settings.training_only)
    except DataError as error:
        return Look(task.name, str(error).removeprefix(f"{folder}: "))
    labels = Counter(
        task.negative if label == "none" else label for s in reading.samples if s.labelled for label in s.positives
    )
    wanted = reading.labels or task.labels
    noted = replace(reading, notes=(*reading.notes, *spellings(reading.samples)))
    return Look(
        task.name,
        "" if reading.samples else "no image and its label belong together",
        reading,
        {origin.source: origin.layout for origin in reading.origins},
        labels,
        account_of(noted, (), Settled({}, {}, {}), task.negative),
        (
            *_reasons(reading.problems),
            *_missing(wanted, labels),
            *_unnamed(reading.samples),
            *_undecodable(reading.samples, folder, settings),
        ),
    )


def _reasons(problems: Sequence[Problem]) -> list[str]:
    """The reasons why files or rows are not used, the most frequent first, each with an example."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.reason.partition(";")[0].partition(" (line ")[0], []).append(problem)
    ordered = sorted(groups.values(), key=len, reverse=True)
    said = []
    for group in ordered[:_SHOWN]:
        first = group[0]
        where = f"{first.file}, line {first.row}" if first.row else first.file
        said.append(f"{len(group)} would be quarantined, e.g. {where}: {first.reason}")
    left = sum(map(len, ordered[_SHOWN:]))
    return [*said, *([f"{left} more would be quarantined, for other reasons"] if left else [])]


def _missing(wanted: Sequence[str], labels: Mapping[str, int]) -> list[str]:
    absent = [label for label in wanted if not labels.get(label)]
    return [f"no image of {', '.join(absent)}"] if absent else []


def _unnamed(samples: Sequence[Sample]) -> list[str]:
    if not samples or any(sample.patient or sample.lesion for sample in samples):
        return []
    return ["no list names patients or lesions: images of one person cannot be kept in one split"]


def _undecodable(samples: Sequence[Sample], folder: Path, settings: PrepareSettings) -> list[str]:
    step = max(1, len(samples) // TRIED)
    tried = samples[::step][:TRIED]
    bad = [result for _, result in decoded(tried, folder, settings.store_side) if isinstance(result, Problem)]
    return (
        [f"{len(bad)} of {len(tried)} images tried cannot be used, e.g. {bad[0].file}: {bad[0].reason}"] if bad else []
    )
