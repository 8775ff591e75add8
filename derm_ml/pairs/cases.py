"""The pairs a dataset gives: as delivered, made from single photos, and of wrong persons.

    for case in cases(dataset, "test"): pair, truth = case.load()

* `delivered`: two photos whose boxes carry lesion ids: the truth is known
* `generated`: a second visit made from one photo (synthetic/visits.py): the truth is exact
* `harder`: the same, months later, by another hand with another camera: measured, never fitted on
* `same_person`: two photos of one person without known matches: registration must succeed
* `wrong_person`: first photos of two people of one source, both named by it: must be refused
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from derm_ml.asking.pair import FIRST, SECOND, Pair, Truth, truth_of_ids
from derm_ml.data.dataset import Dataset
from derm_ml.records import Region
from derm_ml.synthetic.visit_change import HARDER, VisitChange
from derm_ml.synthetic.visits import second_visit
from derm_ml.training.seeding import derived

Kind = Literal["delivered", "generated", "harder", "same_person", "wrong_person"]
KINDS: tuple[Kind, ...] = get_args(Kind)
UNNAMED = "group "  # what a person is called whom the source does not name
EVERY = 4  # of photos without boxes, one in so many also becomes a generated pair
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One pair that will be asked; `load` reads or makes it.

    `group` is whom an interval resamples, `sample` the row of the dataset the pair was made from. `people` are whom the
    photos show: a patient of a source, or the group of a photo whose patient is not named.
    """

    id: str
    sample: str
    group: str
    kind: Kind
    load: Callable[[], tuple[Pair, Truth | None]]
    people: tuple[str, str]

    @property
    def is_named(self) -> bool:
        """Whether the source says whom the photos show. Those it does not name may be copies of one photo."""
        return not any(person.startswith(UNNAMED) for person in self.people)

    @property
    def is_right(self) -> bool:
        return self.kind != "wrong_person"


def cases(dataset: Dataset, split: str, visits: int = 1, harder: bool = True, seed: str = "visit") -> list[Case]:
    """The cases of one split, in the order of the manifest.

    `visits` are made of each photo that stands alone, and with `harder` as many that are.
    """
    kinds: tuple[Kind, ...] = ("generated", "harder") if harder else ("generated",)
    rows = dataset.split(split).to_dict("records")
    found: list[Case] = []
    unboxed = 0
    for row in rows:
        single = not isinstance(row.get(f"{SECOND}.shard"), str)
        if single:
            found += [_made(dataset, row, k, kind, seed) for kind in kinds for k in range(visits)]
            continue
        known = any(r.id or r.state for role in (FIRST, SECOND) for r in dataset.regions(row, role))
        kind: Kind = "delivered" if known else "same_person"
        found.append(Case(row["id"], row["id"], row["group"], kind, _delivered(dataset, row, known), _people(row, row)))
        if not known:
            unboxed += 1
            if unboxed % EVERY == 0:
                found += [_made(dataset, row, 0, kind, seed) for kind in kinds]
    return found + _wrong(dataset, rows, seed)


def in_parallel(work: Callable[[Case], T], of: Sequence[Case], done: Callable[[int], None]) -> Iterator[T]:
    """`work` of each case, in order, a few at a time: OpenCV leaves Python's lock. `done` is told how many."""
    with ThreadPoolExecutor() as pool:
        waiting = iter(of)
        window = [pool.submit(work, case) for case in islice(waiting, 8)]
        number = 0
        while window:
            future = window.pop(0)
            window += [pool.submit(work, case) for case in islice(waiting, 1)]
            yield future.result()
            number += 1
            done(number)


def _delivered(dataset: Dataset, row: dict[str, Any], known: bool) -> Callable[[], tuple[Pair, Truth | None]]:
    def load() -> tuple[Pair, Truth | None]:
        pair = _as_pair(dataset, (row, row), (FIRST, SECOND))
        return pair, truth_of_ids(pair) if known else None

    return load


def _made(dataset: Dataset, row: dict[str, Any], number: int, kind: Kind, seed: str) -> Case:
    name = f"{row['id']}~{'' if kind == 'generated' else kind}{number}"

    def load() -> tuple[Pair, Truth | None]:
        photo = dataset.image(row, FIRST)
        change = HARDER if kind == "harder" else VisitChange()
        return second_visit(photo, _regions(dataset, row, FIRST), derived(seed, name), change)

    return Case(name, row["id"], row["group"], kind, load, _people(row, row))


def _wrong(dataset: Dataset, rows: Sequence[dict[str, Any]], seed: str) -> list[Case]:
    """The first photo of each pair with that of another patient of the same source, drawn.

    A photo whose patient is not named may show anybody: it is in no such pair.
    """
    found = []
    named = [row for row in rows if row["patient"]]
    for row in named:
        others = [
            r
            for r in named
            if r["source"] == row["source"] and r["patient"] != row["patient"] and r["group"] != row["group"]
        ]
        if not others:
            continue
        other = others[derived(seed, "wrong", row["id"]) % len(others)]

        def load(a: dict[str, Any] = row, b: dict[str, Any] = other) -> tuple[Pair, Truth | None]:
            return _as_pair(dataset, (a, b), (FIRST, FIRST)), None

        people = _people(row, other)
        found.append(Case(f"{row['id']}!{other['id']}", row["id"], row["group"], "wrong_person", load, people))
    return found


def _people(first: dict[str, Any], second: dict[str, Any]) -> tuple[str, str]:
    a, b = (f"{r['source']}/{r['patient']}" if r["patient"] else f"{UNNAMED}{r['group']}" for r in (first, second))
    return a, b


def _as_pair(dataset: Dataset, rows: tuple[dict[str, Any], dict[str, Any]], roles: tuple[str, str]) -> Pair:
    """Two stored photos as a pair."""
    first, second = (dataset.image(row, role) for row, role in zip(rows, roles, strict=True))
    before, after = (_regions(dataset, row, role) for row, role in zip(rows, roles, strict=True))
    return Pair(first, second, before, after)


def _regions(dataset: Dataset, row: dict[str, Any], role: str) -> tuple[Region, ...]:
    """The boxes of a picture, cut at its frame: exporters round beyond it."""
    height, width = (float(row[f"{role}.{k}"]) for k in ("height", "width"))
    longest = dataset.info["settings"]["store_side"]
    scale = min(1.0, longest / max(height, width))
    ends = np.array([width * scale, height * scale] * 2)
    kept = []
    for region in dataset.regions(row, role):
        x1, y1, x2, y2 = np.clip(region.box, 0, ends)
        kept.append(replace(region, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2)))
    return tuple(kept)
