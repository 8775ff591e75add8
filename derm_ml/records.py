"""Samples as a source reader finds them.

A *source* (one downloaded folder) is read into `Reading`: the usable samples and the problems, nothing
dropped silently. Which split a sample goes to is decided in `data/splits.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from derm_ml import DermError

SPLITS = ("train", "validation", "test")
RECENT = "recent"  # of what was delivered later some patients: never learned from, reported beside the test split
FROZEN = (*SPLITS, RECENT)  # no image ever moves from one of these to another
UNLABELLED = "unlabelled"  # where samples without a known target go: pseudo-labelling may use them, nothing else does
DELIVERIES = "batches"  # the folder of a raw folder that holds what was delivered, each delivery a source of its own
_WHOLE_NUMBER = re.compile(r"0*([0-9]+)(?:[.,]0+)?")


class DataError(DermError, ValueError):
    """The data cannot be used as they are; the message names file, row and what to do."""


class SettingError(DataError):
    """A setting names what the data do not hold; the message names what they do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One file or row that is not used, and why. It is quarantined, never dropped silently.

    `kind` is `unusable` (missing, broken, not listed) or `held_back` (intact, but in any split it would leak). A reader
    also says `unclaimed`: of a file or folder it cannot place, and that may belong to another data set in the same
    folder. `read_source` settles those: none leaves it.
    """

    file: str
    reason: str
    row: int | None = None  # line of the list that names it, counted from 1, the header being line 1
    kind: Literal["unusable", "held_back", "unclaimed"] = "unusable"


@dataclass(frozen=True, slots=True)
class Region:
    """A labelled box in a picture: pixels of the upright picture, x to the right, y down, x1 < x2 and y1 < y2.

    Two regions of one pair with the same `id` show the same lesion; with "" that is not known. `state` is what somebody
    has said became of it (`resolved`) or how it came (`new`), or `not_visible` in the other photo; "" if nobody has.
    `frame` is the (width, height) in pixels of the picture it was drawn on, where the file with the boxes says so.
    """

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    id: str = ""
    state: str = ""
    frame: tuple[int, int] | None = field(default=None, compare=False, repr=False)

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
    `listed_in` and `row` say which line of which list it was read from; "" and None where no list names it.
    `attributes` may hold `age` (years), `sex` (`male`, `female`), `site`, `eye`, `diagnosis`; an unknown one is absent.
    `named` is what the publisher calls its label (`mel`, `Basal cell carcinoma`); "" where that is the label itself.
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
    listed_in: str = ""
    row: int | None = None
    named: str = ""

    @property
    def delivered(self) -> bool:
        """Whether it came as a delivery rather than with the images the task was set up with."""
        return self.source.split("/")[0] == DELIVERIES

    def problem(self, reason: str, file: str = "", kind: Literal["unusable", "held_back"] = "unusable") -> Problem:
        """A problem of this sample (of its first file, if none is named) that says where it is listed."""
        where = f" (line {self.row} of {self.listed_in})" if self.listed_in else ""
        return Problem(file or next(iter(self.files.values())), reason + where, self.row, kind)

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
class Listed:
    """A list that was read: which of its columns were used, and which were not."""

    file: str
    used: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """One data set of a raw folder: its name (its path, or its layout), the layout it was read as, and how many images
    it has under labels that take no part, by the publisher's name."""

    source: str
    layout: str
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source reader found, and what became of every file.

    `left_out` maps a source's own label (`bcc`) to the number of images that carry it.
    `labels` are those the data and the settings decide on; empty: the task's.
    `set_aside` maps a file that takes no part to the reason: its label is left out, it is a superpixel file, a setting
    names it. `no_images` maps what is known to be no image (lists, archives, hidden files) to what it is.
    `unmatched` maps a setting to the names in it that nothing carries, `present` to those that there are.
    `notes` are sentences for whoever prepares the data: what was understood, but not as it stood.
    """

    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)
    no_images: Mapping[str, str] = field(default_factory=dict)
    lists: tuple[Listed, ...] = ()
    origins: tuple[Origin, ...] = ()
    unmatched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    present: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def with_prefix(reading: Reading, folder: str, source: str) -> Reading:
    """The same reading with paths relative to the parent of `folder` and named as coming from `source`."""
    if not folder:
        return replace(reading, samples=tuple(replace(s, source=s.source or source) for s in reading.samples))
    lists = {name: f"{folder}/{name}" if name else "" for name in {s.listed_in for s in reading.samples}}
    return replace(
        reading,
        samples=tuple(
            replace(
                s,
                source=source,
                files={role: f"{folder}/{path}" for role, path in s.files.items()},
                listed_in=lists[s.listed_in],
            )
            for s in reading.samples
        ),
        problems=tuple(replace(p, file=f"{folder}/{p.file}") for p in reading.problems),
        set_aside={f"{folder}/{file}": why for file, why in reading.set_aside.items()},
        no_images={f"{folder}/{file}": what for file, what in reading.no_images.items()},
        lists=tuple(replace(x, file=f"{folder}/{x.file}") for x in reading.lists),
        notes=tuple(f"{folder}: {note}" for note in reading.notes),
    )


def normal_id(text: str) -> str:
    """The form in which patient and lesion IDs are compared and stored.

    One person has one ID, however it was typed or exported: case, spaces and Unicode form do not matter, nor what
    spreadsheets do to numbers. Two people who are taken for one share a split, which harms nobody; one person who is
    taken for two may be learned from and tested on.

        >>> normal_id(" Case\u00a0 12 "), normal_id("12.0"), normal_id("0012"), normal_id("P-07")
        ('case 12', '12', '12', 'p-07')
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    visible = "".join(c for c in folded if unicodedata.category(c) != "Cf")  # zero-width characters, a stray BOM
    plain = " ".join(visible.split())
    number = _WHOLE_NUMBER.fullmatch(plain)
    return number[1] if number else plain


def namespace(source: str, patients: str) -> str:
    """Within which patient and lesion IDs of a source mean the same: everywhere ("") where `patients` is `shared`.

    With `per_source` it is the source; all deliveries of a task together are one.
    """
    if patients == "shared":
        return ""
    return DELIVERIES if source.split("/")[0] == DELIVERIES else source


def one_hot(label: str, labels: Sequence[str]) -> dict[str, float]:
    """`one_hot("nevus", ("melanoma", "nevus"))` → `{"melanoma": 0.0, "nevus": 1.0}`."""
    if label not in labels:
        raise DataError(f"unknown label '{label}'; known labels: {', '.join(labels)}")
    return {name: float(name == label) for name in labels}
