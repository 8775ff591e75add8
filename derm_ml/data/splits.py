"""Splits that keep patients together and stay as they are when data arrive.

    earlier = known_again(old, new)                                    what is in a split already
    settle(samples, duplicates, shares, earlier)                       → groups, splits, what is held back and why

    groups = group_samples(samples, duplicates)                        patient, lesion, duplicates → one group
    reasons = copies(samples, duplicates, extra, earlier)              duplicates of an image in a split above
    reasons = contested(samples, groups, extra, earlier)               new samples that no split can take
    splits = assign_splits(samples, shares, groups, extra, earlier)    kept, or dealt: grouped and stratified

Same input, same splits, whatever its order. An image that was in a split of the dataset that is replaced stays in
it, so that a model is never tested on what it, or the champion before it, has learned. Nor does the test split grow
by itself: scores before and after a delivery are of the same images. Of the patients of later deliveries a share forms
the split `recent`, which nothing is learned from either: whether a model still holds for those who come today.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from derm_ml.records import FROZEN, RECENT, UNLABELLED, DataError, Sample, namespace, normal_id

HELD_OUT = ("validation", "test")
SAME_IMAGE = "it shows the same image as"  # begins the reason a copy is held back for
_GROWS = "the test split grows only with `test_grows: true`"
_BY_RANK = ("train", "validation", RECENT, "test")  # of two copies of an image the one that ranks higher is kept


@dataclass(frozen=True, slots=True)
class SplitFractions:
    """Shares of the samples without an official split that go to validation and test, and of what later deliveries
    brought to recent (0..1 each)."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    test_grows: bool = False  # whether new images may join a test split that is there already
    recent: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """Sample id → its group and its split, and the samples that are in neither with the reason."""

    groups: Mapping[str, str]
    splits: Mapping[str, str]
    held_back: Mapping[str, str]


def settle(
    samples: Sequence[Sample],
    duplicates: Sequence[tuple[str, str]],
    fractions: SplitFractions,
    earlier: Mapping[str, str] = {},
    training_only: frozenset[str] = frozenset(),
    patients: str = "shared",
    keep_copies: bool = False,
) -> Settled:
    """Where every sample goes; those that would leak whatever split they were in are held back.

    That is a new sample that no split can take (`contested`), and, unless `keep_copies`, the lower copy of an image
    that two splits hold and that grouping cannot join, because neither moves (`copies`).
    """
    out = {} if keep_copies else copies(samples, duplicates, training_only, earlier)
    left = [s for s in samples if s.id not in out]
    # of three alike the middle one may be out: the other two are still one image, so all pairs join
    groups = group_samples(samples, duplicates, patients)
    same = _by_image(samples, duplicates)
    out = out | contested(left, groups, training_only, earlier, fractions.test_grows, same)
    if out:
        left = [s for s in left if s.id not in out]
        groups = group_samples(left, duplicates, patients)
    return Settled(groups, assign_splits(left, fractions, groups, training_only, earlier), out)


def group_samples(
    samples: Sequence[Sample], duplicates: Iterable[tuple[str, str]] = (), patients: str = "shared"
) -> dict[str, str]:
    """Sample id → group id: the union of patient, lesion and duplicate pairs (union-find).

    Patient and lesion IDs are compared in their normal form, within the namespace `patients` gives their source;
    duplicate pairs (sample ids) join across sources. A group is named by its smallest sample id.
    """
    first_of: dict[tuple[str, str, str], str] = {}
    alike: list[tuple[str, str]] = []
    for sample in samples:
        space = namespace(sample.source, patients)
        for kind, value in (("patient", sample.patient), ("lesion", sample.lesion)):
            if value and (value := normal_id(value)):
                first = first_of.setdefault((space, kind, value), sample.id)
                if first != sample.id:
                    alike.append((first, sample.id))
    return _united([sample.id for sample in samples], chain(alike, duplicates))


def _united(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name → the smallest name it is joined with, over any number of pairs (union-find); unknown names do not join."""
    parent = {name: name for name in names}

    def find(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs:
        if a in parent and b in parent:
            low, high = sorted((find(a), find(b)))
            parent[high] = low
    return {name: find(name) for name in names}


def assign_splits(
    samples: Sequence[Sample],
    fractions: SplitFractions,
    groups: Mapping[str, str],
    training_only: frozenset[str] = frozenset(),
    earlier: Mapping[str, str] = {},
) -> dict[str, str]:
    """Sample id → split (`train`, `validation`, `test`, `recent` or `unlabelled`), grouped, stratified and frozen.

    * An official split is kept. A split that no official sample fills is drawn from the official training
      samples, so that a data set with train and validation alone still gets a test split.
    * `training_only` names sources (extra data) whose samples never leave the training split.
    * `earlier` maps the samples of an earlier dataset to their splits: none of them moves. What was unlabelled then
      may have been learned from by a pseudo-label: its group is not dealt, it trains.
    * A group with a sample that cannot move is not dealt: its other samples go where that one is. Where several lie
      in different splits, officially or because of what was learned of them later, they stay: the rule
      `patients_do_not_cross_splits` or `no_duplicates_across_splits` reports it; `contested` names the new ones,
      and those that only the test split could take.
    * A test split that is there already is not dealt to, unless `fractions.test_grows`. Validation keeps its share:
      nothing is learned from it, and thresholds are the surer the more it holds.
    * A group that deliveries brought, all of whose samples are new and without an official split, goes to recent with
      the chance `fractions.recent`, by a hash of its name: so recent is a simple random sample of those who come,
      however small each delivery is. None goes where the first samples of all arrive. The others are dealt as if these
      were not there.
    * Any other group is dealt to one split as a whole. Groups are ordered by a hash of seed and id, not by input
      order, and dealt label by label, the label with the fewest positives left first, to the split that lacks most
      of it (iterative stratification: Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, over groups), counting
      what it had before. So every split gets its share of every label: at least its smallest group, as long as one
      remains for training.
    * A sample without a known target is `unlabelled`, whatever its group.

    Raises `DataError` for fractions outside 0 ≤ f, validation + test < 1, recent < 1.
    """
    given = (fractions.validation, fractions.test, fractions.recent)
    if min(given) < 0 or fractions.validation + fractions.test >= 1 or fractions.recent >= 1:
        raise DataError(f"split fractions must be ≥ 0 and leave training data, got {fractions}")
    fixed = fixed_splits(samples, training_only, earlier)
    result = {s.id: fixed.get(s.id, "train") if s.labelled else UNLABELLED for s in samples}
    used = {groups[s.id] for s in samples if earlier.get(s.id) == UNLABELLED}
    dealt: dict[str, list[Sample]] = {}
    before = {split: Counter[str]() for split in FROZEN}
    for name, group in _members(samples, groups).items():
        held = {fixed[s.id] for s in group if s.id in fixed}
        if not held and name not in used:
            dealt[name] = group
            continue
        result |= {s.id: max(held or {"train"}, key=_BY_RANK.index) for s in _free(group, fixed)}
        if all(s.source not in training_only and s.split not in HELD_OUT for s in group):
            for s in group:
                before[result[s.id]].update(s.positives)
    arrived = {name for name, group in dealt.items() if all(s.delivered and not s.split for s in group)}
    recent: dict[str, str] = {}
    if any(groups[s.id] not in arrived for s in samples if s.labelled):
        recent = {name: RECENT for name in arrived if _share(fractions.seed, name) < fractions.recent}
    dealt = {name: group for name, group in dealt.items() if name not in recent}
    del before[RECENT]  # the shares are those of the others
    official = {s.split for s in samples if s.labelled and s.split and s.source not in training_only}
    shares = {"validation": fractions.validation, "test": fractions.test}
    # where the publisher split the data, only the splits left open are drawn from the training data
    closed = official if fractions.test_grows or "test" not in earlier.values() else official | {"test"}
    wanted = {split: share for split, share in shares.items() if split not in closed}
    drawn = _stratified(dealt, wanted, fractions.seed, before) | recent
    return result | {s.id: drawn.get(groups[s.id], result[s.id]) for s in samples if s.labelled}


def contested(
    samples: Sequence[Sample],
    groups: Mapping[str, str],
    training_only: frozenset[str] = frozenset(),
    earlier: Mapping[str, str] = {},
    test_grows: bool = False,
    same: Mapping[str, str] = {},
) -> dict[str, str]:
    """Sample id → why no split can take it.

    It ties samples together that lie in different splits and do not move; or it belongs to a test image, so that it
    must not be learned from, and the test split does not grow. `same`: sample id → its group by duplicates alone, by
    which the reason says that it is a copy (`SAME_IMAGE`).
    """
    fixed = fixed_splits(samples, training_only, earlier)
    reasons = {}
    for group in _members(samples, groups).values():
        lying = {fixed[s.id]: s.id for s in reversed(group) if s.id in fixed}
        places = " and ".join(f"{lying[split]} ({split})" for split in _BY_RANK if split in lying)
        shown = f"it shows the same patient, lesion or image as {places}"
        if len(lying) > 1:
            reasons |= {s.id: f"{shown}: in either split it would leak" for s in _free(group, fixed)}
        elif "test" in lying and not test_grows:
            tested = {same[s.id]: s.id for s in reversed(group) if s.id in fixed and s.id in same}
            for s in _free(group, fixed):
                copied = tested.get(same.get(s.id, ""))
                said = f"{SAME_IMAGE} {copied} (test)" if copied else shown
                reasons[s.id] = f"{said}: it must not be learned from, and {_GROWS}"
    return reasons


def copies(
    samples: Sequence[Sample],
    duplicates: Iterable[tuple[str, str]],
    training_only: frozenset[str] = frozenset(),
    earlier: Mapping[str, str] = {},
) -> dict[str, str]:
    """Sample id → why it is taken out: an image that does not move either shows the same in a split above its own.

    The test image is kept, then the recent, then the validation image, so that published test sets stay whole. Copies
    of copies count: of three alike, in training, validation and test, the test image alone is kept.
    """
    fixed = fixed_splits(samples, training_only, earlier)
    # what the publisher put into training does not move to where its copy is
    lies = {
        s.id: _BY_RANK.index(fixed.get(s.id) or s.split) for s in samples if s.labelled and (s.id in fixed or s.split)
    }
    reasons = {}
    for group in _members(samples, _by_image(samples, duplicates)).values():
        placed = [s.id for s in group if s.id in lies]
        kept = max(placed, key=lambda name: lies[name], default="")
        for name in placed:
            if lies[name] < lies[kept]:
                reasons[name] = f"{SAME_IMAGE} {kept} in the {_BY_RANK[lies[kept]]} split"
    return reasons


def _by_image(samples: Sequence[Sample], duplicates: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Sample id → the group of those that show the same image, copies of copies too, whatever their IDs say."""
    return _united([s.id for s in samples], duplicates)


def fixed_splits(
    samples: Sequence[Sample], training_only: frozenset[str], earlier: Mapping[str, str]
) -> dict[str, str]:
    """Sample id → the split it cannot leave, for the labelled samples that have one."""
    fixed = {}
    for s in (s for s in samples if s.labelled):
        if s.source in training_only:
            fixed[s.id] = "train"
        elif s.split in HELD_OUT:
            fixed[s.id] = s.split
        elif earlier.get(s.id) in FROZEN:
            fixed[s.id] = earlier[s.id]
    return fixed


def _members(samples: Sequence[Sample], groups: Mapping[str, str]) -> dict[str, list[Sample]]:
    """Group → its labelled samples, in the order of their ids."""
    members: dict[str, list[Sample]] = {}
    for sample in sorted((s for s in samples if s.labelled), key=lambda s: s.id):
        members.setdefault(groups[sample.id], []).append(sample)
    return members


def _free(group: Sequence[Sample], fixed: Mapping[str, str]) -> list[Sample]:
    """The samples of a group that may go to another of its splits: where the publisher split it, none it placed."""
    published = any(s.split in HELD_OUT for s in group)
    return [s for s in group if s.id not in fixed and not (published and s.split)]


def _stratified(
    groups: Mapping[str, Sequence[Sample]], wanted: Mapping[str, float], seed: int, before: Mapping[str, Counter[str]]
) -> dict[str, str]:
    """Group → the split it is drawn for; groups that stay in training are absent. `before`: labels dealt earlier."""
    carried = {name: Counter(label for s in group for label in s.positives) for name, group in groups.items()}
    totals = sum((*carried.values(), *before.values()), Counter())
    dealt = {split: Counter(before[split]) for split in wanted}
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
            if len(stayed) + bool(before["train"][label]) < 2:  # a label with one group stays in training
                break
            deal(min(stayed, key=lambda name: len(groups[name])), split)
    return drawn


class ImageIdentity(NamedTuple):
    """What an image is known again by when data are prepared a second time."""

    source: str
    id: str
    content: str  # sha256 of its stored pictures


def known_again(old: Mapping[ImageIdentity, str], new: Sequence[ImageIdentity]) -> dict[str, str]:
    """Sample id → the split of the old image it is, for those of the new images that are one.

    It is known by source, id and content; else by content (it was renamed or moved, or another took its id); else by
    source and id (it was stored in another size). An old image is known again once: its copy, delivered later, is new.
    """
    found: dict[str, str] = {}
    left = dict(old)
    for part in (slice(0, 3), slice(2, 3), slice(0, 2)):
        known = {key[part]: key for key in left}
        for key in new:
            if key.id not in found and key[part] in known:
                found[key.id] = left.pop(known.pop(key[part]))
    return found


def split_hash(assignment: Mapping[str, str], split: str) -> str:
    """sha256 (first 16 hex digits) over the sorted ids of one split: the name of a frozen split in every report."""
    ids = sorted(name for name, where in assignment.items() if where == split)
    return hashlib.sha256(json.dumps([split, ids]).encode()).hexdigest()[:16]


def _share(seed: int, name: str) -> float:
    """A number in [0, 1) that is the name's own, whatever else there is."""
    return int(hashlib.sha256(f"{seed}:recent:{name}".encode()).hexdigest()[:12], 16) / 16**12


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
