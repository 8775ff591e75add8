"""Samples as a source reader finds them, and splits that keep patients together.

A *source* (one downloaded folder) is read into `Reading`: the usable samples and the problems, nothing
dropped silently. `assign_splits` keeps official splits, groups the rest by patient, lesion and duplicate
cluster, stratifies by label, and is the same for the same input whatever its order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from derm_ml import DermError

SPLITS = ("train", "validation", "test")
UNLABELLED = "unlabelled"  # where samples without a known target go: pseudo-labelling may use them, nothing else does


class DataError(DermError, ValueError):
    """The data cannot be used as they are; the message names file, row and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One file or row that cannot be used, and why. It is quarantined, never dropped silently."""

    file: str
    reason: str
    row: int | None = None  # line in `file` counted from 1, the header being line 1


@dataclass(frozen=True, slots=True)
class Region:
    """A labelled box in a picture: pixels of the upright picture, x to the right, y down, x1 < x2 and y1 < y2.

    Two regions of one pair with the same `id` show the same lesion; with "" that is not known. `state` is what somebody
    has said became of it (`resolved`) or how it came (`new`), or `not_visible` in the other photo; "" if nobody has.
    """

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    id: str = ""
    state: str = ""

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x1, self.y1, self.x2, self.y2

    def scaled(self, across: float, down: float) -> Region:
        """The same region in a picture that was resized by these factors."""
        return replace(self, x1=self.x1 * across, y1=self.y1 * down, x2=self.x2 * across, y2=self.y2 * down)


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled (or unlabelled) unit: an image, an image with its mask, or a pair of images.

    `files` maps a role (`image`, `mask`, `first`, `second`) to a path relative to the source's root.
    `regions` maps a role to the boxes in that picture; a role without an entry was not looked at.
    `target` maps a label to 1.0, 0.0 or NaN (not known); it is empty for an unlabelled sample.
    `attributes` may hold `age` (years), `sex` (`male`, `female`), `site`, `eye`, `diagnosis`; an unknown one is absent.
    """

    id: str
    files: Mapping[str, str]
    target: Mapping[str, float] = field(default_factory=dict)
    patient: str = ""
    lesion: str = ""
    split: str = ""  # the official split where the data set has one, else ""
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    source: str = ""
    licence: str = "unknown"
    regions: Mapping[str, tuple[Region, ...]] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """True if at least one target is known."""
        return any(value == value for value in self.target.values())

    @property
    def positives(self) -> tuple[str, ...]:
        """The positive labels in alphabetical order; `none` where a target is known and none is positive."""
        if not self.labelled:
            return ()
        return tuple(name for name, value in sorted(self.target.items()) if value == 1) or ("none",)

    @property
    def label(self) -> str:
        """The positive labels, joined by `+`; `none` if there are none; `unlabelled` if no target is known."""
        return "+".join(self.positives) or UNLABELLED


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source reader found: usable samples, quarantined problems, and what the task has no label for.

    `left_out` maps a source's own label (`bcc`) to the number of images that carry it.
    `labels` are those the data and the settings decide on; empty: the task's.
    """

    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitFractions:
    """Shares of the samples without an official split that go to validation and test (0..1 each)."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0


def group_samples(samples: Sequence[Sample], duplicates: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Sample id → group id: the union of patient, lesion and duplicate pairs (union-find).

    Patient and lesion ids are only comparable within one source, so they are joined per source;
    duplicate pairs (sample ids) join across sources. A group is named by its smallest sample id.
    """
    parent = {sample.id: sample.id for sample in samples}

    def find(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(a: str, b: str) -> None:
        low, high = sorted((find(a), find(b)))
        parent[high] = low

    first_of: dict[tuple[str, str, str], str] = {}
    for sample in samples:
        for kind, value in (("patient", sample.patient), ("lesion", sample.lesion)):
            if value:
                join(first_of.setdefault((sample.source, kind, value), sample.id), sample.id)
    for a, b in duplicates:
        if a in parent and b in parent:
            join(a, b)
    return {sample.id: find(sample.id) for sample in samples}


def assign_splits(
    samples: Sequence[Sample],
    fractions: SplitFractions,
    groups: Mapping[str, str],
    training_only: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Sample id → split (`train`, `validation`, `test`, or `unlabelled`), grouped, stratified and frozen.

    * An official split is kept. A split that no official sample fills is drawn from the official training
      samples, so that a data set with train and validation alone still gets a test split.
    * `training_only` names sources (extra data) whose samples never leave the training split, nor do their
      groups: a group with such a member is not drawn from.
    * Each group goes to one split as a whole. Groups are ordered by a hash of seed and id, not by input order,
      and dealt label by label, the label with the fewest positives left first, to the split that lacks most of it
      (iterative stratification: Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, over groups). So every
      split gets its share of every label: at least its smallest group, as long as one remains for training.
    * A group with officially different splits stays as published: the rule
      `patients_do_not_cross_splits` or `no_duplicates_across_splits` reports it.
    * A sample without a known target is `unlabelled`, whatever its group.

    Raises `DataError` for fractions outside 0 ≤ f, validation + test < 1.
    """
    if fractions.validation < 0 or fractions.test < 0 or fractions.validation + fractions.test >= 1:
        raise DataError(f"split fractions must be ≥ 0 and leave training data, got {fractions}")
    labelled = [s for s in samples if s.labelled]
    official = {s.id: s.split for s in labelled if s.split}
    filled = set(official.values())
    members: dict[str, list[Sample]] = {}
    for sample in labelled:
        members.setdefault(groups[sample.id], []).append(sample)

    wanted = {"validation": fractions.validation, "test": fractions.test}
    if official:  # only splits the publisher left open are drawn from its training data
        wanted = {split: share for split, share in wanted.items() if split not in filled}

    def may_move(group: list[Sample]) -> bool:
        return all(s.source not in training_only and s.split in ("", "train") for s in group)

    movable = {name: group for name, group in members.items() if may_move(group)}
    drawn = _stratified(movable, wanted, fractions.seed)
    result = {s.id: official.get(s.id, "train") if s.labelled else UNLABELLED for s in samples}
    result.update({s.id: split for name, split in drawn.items() for s in movable[name]})
    return result


def _stratified(groups: Mapping[str, Sequence[Sample]], wanted: Mapping[str, float], seed: int) -> dict[str, str]:
    """Group → the split it is drawn for; groups that stay in training are absent."""
    carried = {name: Counter(label for s in group for label in s.positives) for name, group in groups.items()}
    totals = sum(carried.values(), Counter())
    dealt = {split: Counter() for split in wanted}
    drawn: dict[str, str] = {}

    def deal(name: str, split: str) -> None:
        drawn[name] = split
        dealt[split].update(carried[name])

    waiting = sorted(groups, key=lambda name: _rank(seed, name))
    while waiting:
        left = sum((carried[name] for name in waiting), Counter())
        label = min(left, key=lambda name: (left[name], name))
        turn = [name for name in waiting if carried[name][label]]
        waiting = [name for name in waiting if not carried[name][label]]

        for name in turn:
            lacking = {s: wanted[s] * totals[label] - dealt[s][label] for s in wanted}
            split = max(lacking, key=lambda s: (lacking[s], s), default="")
            if split and lacking[split] >= carried[name][label] / 2:
                deal(name, split)
        for split in sorted(s for s in wanted if wanted[s] > 0 and not dealt[s][label]):
            stayed = [name for name in turn if name not in drawn]
            if len(stayed) < 2:  # a label with one group stays in training
                break
            deal(min(stayed, key=lambda name: len(groups[name])), split)
    return drawn


def split_hash(assignment: Mapping[str, str], split: str) -> str:
    """sha256 (first 16 hex digits) over the sorted ids of one split: the name of a frozen split in every report."""
    ids = sorted(name for name, where in assignment.items() if where == split)
    return hashlib.sha256(json.dumps([split, ids]).encode()).hexdigest()[:16]


def with_prefix(reading: Reading, folder: str, source: str) -> Reading:
    """The same reading with paths relative to the parent of `folder` and named as coming from `source`."""
    if not folder:
        return replace(reading, samples=tuple(replace(s, source=s.source or source) for s in reading.samples))
    return Reading(
        tuple(
            replace(s, source=source, files={role: f"{folder}/{path}" for role, path in s.files.items()})
            for s in reading.samples
        ),
        tuple(replace(p, file=f"{folder}/{p.file}") for p in reading.problems),
        reading.left_out,
        reading.labels,
    )


def one_hot(label: str, labels: Sequence[str]) -> dict[str, float]:
    """`one_hot("nevus", ("melanoma", "nevus"))` → `{"melanoma": 0.0, "nevus": 1.0}`."""
    if label not in labels:
        raise DataError(f"unknown label '{label}'; known labels: {', '.join(labels)}")
    return {name: float(name == label) for name in labels}


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
