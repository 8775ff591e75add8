"""What a raw folder remembers of each delivery it accepted, and what follows for reading it.

    raw/batches/<batch>-<content>/           the delivery, to the byte: no list is rewritten
    raw/batches/<batch>-<content>/.intake    the record (JSON): what of it is not used and why, what it corrects

Readers read the delivery as it came; `accepted` then leaves out the samples the record names and applies its
corrections. A sample is named by its files, so that no value of a list is ever mistaken for a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from derm_ml import formats
from derm_ml.files import write_json
from derm_ml.records import DELIVERIES, DataError, Problem, Reading, Sample, normal_id

RECORD = ".intake"
REJECTED = "rejected"  # the folder of the inbox that rejected batches are moved to
MASK = "mask"
Files = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing a delivery says of a known image that was not so before: `label` from `nevus` to `melanoma`."""

    what: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Correction:
    """What one delivered sample changes of a known one. Both are named by their files, relative to the raw folder.

    Where a person has corrected a label (derm_ml/data/relabel.py), `by` is empty and `target` says what counts.
    """

    of: Files
    by: Files
    changes: tuple[Change, ...]
    row: int | None = None
    target: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.of[0]}: " + ", ".join(f"{c.what} {c.old} → {c.new}" for c in self.changes)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or row of a delivery that is not used; `files` names the sample, where it was one."""

    problem: Problem
    files: Files = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """An accepted delivery: its folder relative to the raw folder, its number in the order of acceptance, from 1.

    One of corrected labels has an `author` and a `date` (ISO 8601), and takes no image. `reviewed_by` is who looked at
    images that something spoke against, or might have.
    """

    folder: str
    name: str
    content: str
    number: int
    taken: int
    left_out: tuple[LeftOut, ...] = ()
    corrections: tuple[Correction, ...] = ()
    author: str = ""
    date: str = ""
    reviewed_by: str = ""

    def write(self, raw: Path) -> None:
        self.write_record(raw / self.folder)

    def write_record(self, folder: Path) -> None:
        """Write the record into a folder that becomes the delivery's."""
        stored = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json(folder / RECORD, formats.DELIVERY.stamped(stored))


def files_of(sample: Sample) -> Files:
    """What a sample is named by: its files in the order of their roles."""
    return tuple(path for _, path in sorted(sample.files.items()))


def deliveries(raw: Path) -> list[Delivery]:
    """The deliveries a raw folder holds, in the order of their acceptance. Raises `DataError` for a damaged record."""
    found = [_read(raw, path) for path in sorted((raw / DELIVERIES).glob(f"*/{RECORD}"))]
    return sorted(found, key=lambda delivery: (delivery.number, delivery.folder))


def _read(raw: Path, path: Path) -> Delivery:
    try:
        stored = formats.DELIVERY.read(json.loads(path.read_text(encoding="utf-8")), path, DataError)
        return Delivery(
            path.parent.relative_to(raw).as_posix(),
            stored["name"],
            stored["content"],
            stored["number"],
            stored["taken"],
            tuple(LeftOut(Problem(**e["problem"]), tuple(e["files"])) for e in stored["left_out"]),
            tuple(
                Correction(
                    tuple(e["of"]),
                    tuple(e["by"]),
                    tuple(Change(**c) for c in e["changes"]),
                    e["row"],
                    dict(e["target"]),
                    e["remark"],
                )
                for e in stored["corrections"]
            ),
            stored["author"],
            stored["date"],
            stored["reviewed_by"],
        )
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: the record of this delivery is damaged ({error}); withdraw it and deliver it again"
        ) from None


def accepted_readings(raw: Path, readings: Sequence[tuple[str, Reading]]) -> list[Reading]:
    """(folder, reading) of each source → the readings without what the records leave out, with what they correct.

    Deliveries come last and in the order of their acceptance, so that none takes an earlier image's id.
    """
    known = deliveries(raw)
    turn = {delivery.folder: delivery.number for delivery in known}

    def place(folder: str) -> int:
        delivery = "/".join(folder.split("/")[:2])  # one without a record is older than records are
        return turn.get(delivery, 0) if folder.split("/")[0] == DELIVERIES else -1

    ordered = [reading for _, reading in sorted(readings, key=lambda item: place(item[0]))]
    if not known:
        return ordered
    corrected = _corrected(ordered, known)
    out = {
        tuple(f"{delivery.folder}/{file}" for file in entry.files)
        for delivery in known
        for entry in delivery.left_out
        if entry.files
    }
    said = {
        (f"{delivery.folder}/{entry.problem.file}", entry.problem.row)
        for delivery in known
        for entry in delivery.left_out
    }
    by_hand = tuple(
        f"{len(delivery.corrections)} labels were corrected by {delivery.author} on {delivery.date} ({delivery.folder})"
        for delivery in known
        if delivery.author
    )
    return [*(_without(reading, corrected, out, said) for reading in ordered), Reading((), notes=by_hand)]


def _without(
    reading: Reading, corrected: Mapping[Files, Sample], out: set[Files], said: set[tuple[str, int | None]]
) -> Reading:
    """A reading without what the records leave out, which is set aside by name, and with what they correct."""
    aside = {
        file: "its delivery's record leaves it out"
        for s in reading.samples
        if files_of(s) in out
        for file in files_of(s)
    }
    aside |= {p.file: "its delivery's record leaves it out" for p in reading.problems if (p.file, p.row) in said}
    samples = [(s, corrected.get(files_of(s), s)) for s in reading.samples if files_of(s) not in out]
    for old, new in samples:
        aside |= dict.fromkeys({*files_of(old)} - {*files_of(new)}, "a delivery has replaced it")
    used = {file for _, new in samples for file in files_of(new)}
    return replace(
        reading,
        samples=tuple(new for _, new in samples),
        problems=tuple(p for p in reading.problems if (p.file, p.row) not in said),
        set_aside={**reading.set_aside, **{file: why for file, why in aside.items() if file not in used}},
    )


def _corrected(readings: Sequence[Reading], known: Sequence[Delivery]) -> dict[Files, Sample]:
    """The samples that deliveries correct, by their files; a later delivery has the last word."""
    samples = {files_of(s): s for reading in readings for s in reading.samples}
    result: dict[Files, Sample] = {}
    for delivery in known:
        for correction in delivery.corrections:
            old, new = result.get(correction.of) or samples.get(correction.of), samples.get(correction.by)
            if old and correction.target:
                result[correction.of] = replace(old, target={**old.target, **correction.target})
            elif old and new:  # else one of the two was withdrawn
                result[correction.of] = merged(old, new, any(c.what == MASK for c in correction.changes))
    return result


def merged(old: Sample, new: Sample, new_mask: bool) -> Sample:
    """The known sample `old` as the delivered one describes it. What that does not know stays as it was."""
    known = {label: value for label, value in new.target.items() if value == value}
    return replace(
        old,
        target={**old.target, **known},
        patient=new.patient if normal_id(new.patient) not in ("", normal_id(old.patient)) else old.patient,
        lesion=new.lesion if normal_id(new.lesion) not in ("", normal_id(old.lesion)) else old.lesion,
        attributes={
            **old.attributes,
            **{name: value for name, value in new.attributes.items() if not _alike(value, old.attributes.get(name))},
        },
        licence=old.licence if new.licence == "unknown" else new.licence,
        regions={**old.regions, **new.regions},
        files={**old.files, MASK: new.files[MASK]} if new_mask else old.files,
        listed_in=new.listed_in,
        row=new.row,
    )


def changes(old: Sample, new: Sample, new_mask: bool) -> tuple[Change, ...]:
    """What `new` says of `old` that was not so, or not known, before; empty where it says nothing else."""
    after = merged(old, new, new_mask)
    found = [Change("label", old.label, after.label)] if old.label != after.label else []
    if not found:  # of several findings one that was not known may turn out absent
        found += [
            Change(name, _text(old.target.get(name)), _text(value))
            for name, value in after.target.items()
            if not _alike(value, old.target.get(name)) and value == value
        ]
    for name in ("patient", "lesion", "licence"):
        before, now = getattr(old, name), getattr(after, name)
        found += [Change(name, _text(before), _text(now))] if before != now else []
    found += [
        Change(name, _text(old.attributes.get(name)), _text(value))
        for name, value in after.attributes.items()
        if value != old.attributes.get(name)
    ]
    found += [
        Change(f"boxes of {role}", str(len(old.regions.get(role, ()))), str(len(boxes)))
        for role, boxes in after.regions.items()
        if sorted(map(repr, boxes)) != sorted(map(repr, old.regions.get(role, ())))
    ]
    return (*found, *([Change(MASK, old.files.get(MASK, ""), new.files[MASK])] if new_mask else []))


def _alike(a: object, b: object) -> bool:
    return a == b or (isinstance(a, str) and isinstance(b, str) and normal_id(a) == normal_id(b))


def _text(value: object) -> str:
    if value is None or value == "" or value != value:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
