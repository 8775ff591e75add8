"""What became of everything a raw folder held: `account.json` of a dataset, which the command line and Dagster print.

account = account_of(reading, samples, settled)
account["images"]     source, layout, what the publisher calls it, our label, and how many went to which split
label_rows(account)   the same as rows of a table; file_rows, column_lines: files by fate, columns used and not
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from derm_ml.data.splits import Settled
from derm_ml.records import FROZEN, UNLABELLED, DataError, Problem, Reading, Sample, SettingError, normal_id

HELD_BACK, QUARANTINED, LEFT_OUT = "held back", "quarantined", "left out"
FATES = (*FROZEN, UNLABELLED, HELD_BACK, QUARANTINED, LEFT_OUT)
_REASONS = 12  # told one by one, for each fate
_SHOWN = 5  # spellings, names or columns that a sentence repeats


def account_of(
    reading: Reading,
    samples: Sequence[Sample],
    settled: Settled,
    negative: str,
    problems: Sequence[Problem] = (),
) -> dict[str, Any]:
    """The account as JSON: the same reading gives the same. `samples` are all that were read, decodable or not, and
    none where nobody has settled anything yet; `problems` all that is quarantined or held back."""
    images: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for sample in samples:
        fate = settled.splits.get(sample.id) or (HELD_BACK if sample.id in settled.held_back else QUARANTINED)
        for label in sample.positives or (UNLABELLED,):
            ours = negative if label == "none" else label
            images[sample.source, sample.named or ours, ours][fate] += 1
    layouts = {origin.source: origin.layout for origin in reading.origins}
    for origin in reading.origins:
        for name, count in origin.left_out.items():
            images[origin.source, name, ""][LEFT_OUT] += count
    lost = {p.file: _reason(p) for p in problems or reading.problems if p.kind == "unusable"}
    held = {p.file: _reason(p) for p in problems if p.kind == "held_back"}
    kept = settled.splits.keys()
    used = [s for s in samples if s.id in kept] if samples else reading.samples
    read = {file for s in used for file in s.files.values()} - lost.keys()
    return {
        "images": [
            {"source": source, "layout": layouts.get(source, ""), "publisher": named, "label": label, **dict(counts)}
            for (source, named, label), counts in sorted(images.items())
        ],
        "files": {
            "read": {"": {"files": len(read), "example": ""}},
            "quarantined": _grouped(lost),
            "held back": _grouped(held),
            "set aside": _grouped(reading.set_aside),
            "no image": _grouped(reading.no_images),
        },
        "lists": [{"file": x.file, "used": list(x.used), "unused": list(x.unused)} for x in reading.lists],
        "notes": list(reading.notes),
    }


def require_matching(reading: Reading, training_only: Collection[str]) -> None:
    """Raises `SettingError` for a setting that names what is not there: it would be taken for done."""
    sources = Counter(sample.source for sample in reading.samples)
    sources.update({origin.source: 0 for origin in reading.origins})
    missed = {"training_only": [name for name in training_only if name not in sources], **reading.unmatched}
    present = {"training_only": [f"{name} ({count})" for name, count in sorted(sources.items())], **reading.present}
    for setting, names in missed.items():
        if names:
            there = _some(present.get(setting, ())) or "none"
            named = _some([f"'{name}'" for name in names])
            raise SettingError(
                f"the setting {setting} names {named}, which is nowhere in these data; "
                f"there are: {there}. Correct it in params.yaml, or remove it"
            )


def nothing_usable(raw: object, listed: int, problems: Sequence[Any]) -> DataError:
    """Why nothing of a raw folder can be used: the most frequent reason, with one example."""
    reasons = Counter(problem.reason.partition(";")[0] for problem in problems)
    first = problems[0] if problems else None
    said = "it holds no labelled image"
    if first:
        where = f"{first.file}, line {first.row}" if first.row else first.file
        alike = reasons[first.reason.partition(";")[0]]
        said = f"{where}: {first.reason}" + (f" ({alike} alike)" if alike > 1 else "")
    counted = f"{listed} listed images" if listed else "no image and its label belong together"
    return DataError(f"{raw}: nothing can be used, {counted}. The first problem: {said}")


def label_rows(account: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each label of each source, without the columns that are 0 throughout."""
    used = [fate for fate in FATES if any(row.get(fate) for row in account.get("images", ()))]
    return [
        {"source": row["source"], "read as": row["layout"], "publisher": row["publisher"], "label": row["label"] or "–"}
        | {fate: row.get(fate, 0) for fate in used}
        for row in account.get("images", ())
    ]


def file_rows(account: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Files by what became of them, with an example."""
    return [
        {"files": group["files"], "fate": fate, "why": why, "for example": group["example"]}
        for fate, groups in account.get("files", {}).items()
        for why, group in groups.items()
        if group["files"]
    ]


def column_lines(account: Mapping[str, Any]) -> list[str]:
    """One sentence for each list: its columns used and not used."""
    return [
        f"{listed['file']}: used {_some(listed['used'], 12) or 'nothing'}"
        + (f"; not used {_some(listed['unused'], 12)}" if listed["unused"] else "")
        for listed in account.get("lists", ())
        if listed["used"] or listed["unused"]
    ]


def _grouped(files: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Reason → how many files, and the first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file, reason in sorted(files.items()):
        groups[reason].append(file)
    most = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    told = {reason: {"files": len(group), "example": group[0]} for reason, group in most[:_REASONS]}
    rest = [file for _, group in most[_REASONS:] for file in group]
    return told | ({"other reasons": {"files": len(rest), "example": rest[0]}} if rest else {})


def _reason(problem: Problem) -> str:
    """Why, without the line of the list, so that the same fault of many files is one reason."""
    return problem.reason.partition(" (line ")[0]


def spellings(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A note where one patient or lesion is written in several ways: it is one, and that may surprise."""
    notes: list[str] = []
    for kind in ("patient", "lesion"):
        first: dict[str, str] = {}
        several: dict[str, dict[str, None]] = {}
        for sample in samples:
            if value := getattr(sample, kind):
                spelling = first.setdefault(name := normal_id(value), value)
                if value != spelling:
                    several.setdefault(name, {spelling: None})[value] = None
        if several:
            name, spellings = min(several.items())
            shown = " and ".join(f"'{s}'" for s in list(spellings)[:_SHOWN])
            notes.append(
                f"{len(several)} {kind} IDs are written in several ways and taken for one each: {name} as {shown}"
            )
    return tuple(notes)


def _some(values: Iterable[str], shown: int = _SHOWN) -> str:
    known = list(values)
    return ", ".join(known[:shown]) + (f", … ({len(known)} in all)" if len(known) > shown else "")
