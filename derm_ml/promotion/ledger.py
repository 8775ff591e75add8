"""The promotion ledger: one line of JSON for every decision, each chained to the one before by its sha256.

    ledger = Ledger.of(installation(), "lesion_classification", anchor)    a file, or where DERM_SHARED says
    with ledger.locked():
        ledger.append({"event": "promoted", "version": 3})
    standing(ledger.entries()).champion

A line says when, who (user and host) and with which code. The hash of the last line is also kept outside the file (the
`anchor`: a tag in the registry), so that lines missing at the end show as well. Every read verifies all of it.

Lines written before there was a chain are kept: the first chained line, `sealed`, holds the hash of all of them.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from derm_ml import DermError, formats
from derm_ml.places import Installation
from derm_ml.promotion.ledger_lines import FileLines, LedgerError, LedgerLines
from derm_ml.promotion.shared_lines import SharedLines
from derm_ml.provenance import git_commit, user
from derm_ml.shared import SharedPlace, shared_place

__all__ = [
    "Anchor", "Approved", "Ledger", "LedgerError", "LedgerVersionError", "Standing", "WithdrawnModel", "standing",
]  # fmt: skip

START = "0" * 64  # what the first line is chained to, and the head of an empty ledger
INTENTIONS = ("promoting", "rolling_back")  # written before the first alias moves


class LedgerVersionError(DermError, RuntimeError):
    """A newer version wrote the ledger. It is not damaged: nothing repairs it or writes behind it."""


class Anchor(Protocol):
    """Where the hash of the ledger's last line is kept outside its file."""

    def read(self) -> str | None:
        """What was written last; None if nothing ever was."""
        ...

    def write(self, heads: str) -> None:
        """Keep the hash; while a line is being written, that before it and its own."""
        ...


class Ledger:
    """Decisions about the champion of one task, oldest first."""

    def __init__(self, lines: LedgerLines | Path, anchor: Anchor | None = None) -> None:
        self.lines = FileLines(lines) if isinstance(lines, Path) else lines
        self.anchor = anchor
        self._held = False

    @classmethod
    def of(cls, here: Installation, task: str, anchor: Anchor | None = None) -> Ledger:
        """The ledger of a task: in the shared place, where there is one, else in a file of this installation."""
        shared = shared_place()
        return cls(here.ledger(task) if shared is None else SharedLines(shared, task), anchor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the task's promotion lock; a second promotion waits. It is free again when its holder has died."""
        with self.lines.locked():
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def require_lock(self) -> None:
        """Call it `locked()`, before something moves. Raises `LedgerError` where the lock was lost meanwhile."""
        self.lines.require_lock()

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Write one entry, synced to disk before this returns. Call it `locked()`.

        The anchor is told of the line before it is written and again after: a crash in between leaves either.
        Raises `LedgerError` if the ledger was changed by somebody else.
        """
        lines = self.lines.read()
        known = self._verified(lines)
        if known and not any("previous" in e for e in known):
            everything = _hash("\n".join(lines).rstrip("\n"))
            sealed = self._write({"event": "sealed", "entries": len(known)}, known, lines, everything)
            known, lines = [*known, sealed], [*lines, _line(sealed)]
        return self._write(entry, known, lines, _head(lines))

    def entries(self) -> list[dict[str, Any]]:
        """All whole entries, the chain and the anchor verified. A line torn by a crash never took effect and is passed
        over. Raises `LedgerError` with a sentence that says what does not fit, `LedgerVersionError` for a newer ledger.
        """
        try:
            return self._verified(self.lines.read())
        except LedgerError:
            if self._held or not self.lines.writable:  # who may only read cannot hold the lock
                raise
            with self.locked():  # another process may have been writing: look again when it has finished
                return self._verified(self.lines.read())

    def unverified(self) -> list[dict[str, Any]]:
        """Every line that can be read, whoever wrote it: for a repair, which believes the worst."""
        return [entry for line in self.lines.read() if (entry := _parsed(line)) is not None]

    def restart(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Put a damaged ledger aside, under a name of its own, and begin a new one with `entry`. Call it `locked()`."""
        kept = self.lines.set_aside()
        return self._write({**entry, **kept}, [], [], START)

    def _write(
        self, entry: Mapping[str, Any], known: Sequence[Mapping[str, Any]], lines: Sequence[str], previous: str
    ) -> dict[str, Any]:
        """Write behind the `lines` that were read and understood as `known`: whoever wrote since is not overwritten."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        written = formats.LEDGER.stamped(
            {
                "at": max(now, str(known[-1]["at"])) if known else now,  # a clock that was set back dates nothing back
                "by": f"{user()}@{socket.gethostname()}",
                "code": git_commit(),
                **entry,
                "previous": previous,
            }
        )
        line = _line(written)
        head = _hash(line)
        if self.anchor:
            self.anchor.write(f"{_head(lines)} {head}")
        self.lines.add(line, len(lines))
        if self.anchor:
            self.anchor.write(head)
        return written

    def _verified(self, lines: Sequence[str]) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        last, chained = START, False
        for number, line in enumerate(lines, start=1):
            entry = _parsed(line)
            if entry is None:
                continue
            place = f"{self.lines.where}, line {number}"
            formats.LEDGER.check(entry.get(formats.VERSION, 1), place, LedgerVersionError)
            if "previous" not in entry and chained:
                raise LedgerError(f"{place} is not chained to the line before: the platform did not write it")
            if "previous" in entry:
                expected = last if chained or not entries else _hash("\n".join(lines[: number - 1]).rstrip("\n"))
                if entry["previous"] != expected:
                    raise LedgerError(
                        f"{place} does not follow from what stands before it: a line was edited, removed, moved or "
                        "put in between"
                    )
                chained = True
            if entries and str(entry.get("at", "")) < str(entries[-1].get("at", "")):
                raise LedgerError(
                    f"{place} is dated {entry.get('at')}, before the line above it ({entries[-1].get('at')})"
                )
            last = _hash(line)
            entries.append(entry)
        if self.anchor:
            self._compare(self.anchor.read(), last, len(entries), chained)
        return entries

    def _compare(self, heads: str | None, head: str, entries: int, chained: bool) -> None:
        if heads is None:
            if chained:
                raise LedgerError(
                    f"{self.lines.where} has {entries} entries, the registry knows of none: it is another registry "
                    "than the one the ledger was written with, or its database was lost"
                )
            return
        if head not in heads.split():
            what = f"ends with another entry (of {entries}) than" if entries else "is missing or empty, unlike what"
            raise LedgerError(
                f"{self.lines.where} {what} the registry remembers: entries at its end were removed, edited or added "
                "by hand"
            )


def copy_to_shared(here: Installation, shared: SharedPlace, task: str) -> str:
    """Copy a task's ledger, and the looks beside it, from this installation's files; a sentence.

    Cut short, it goes on when it is called again. Raises `LedgerError` where what lies here is damaged, or where
    another ledger lies in the shared place.
    """
    own, theirs = FileLines(here.ledger(task)), SharedLines(shared, task)
    for mine, there in ((own, theirs), (own.beside("looks"), theirs.beside("looks"))):
        Ledger(mine).entries()
        lines = [line for line in mine.read() if line]
        with there.locked():
            known = there.read()
            if known != lines[: len(known)]:
                raise LedgerError(
                    f"{there.where} holds entries that {mine.where} does not begin with: nothing was copied"
                )
            for number in range(len(known), len(lines)):
                there.add(lines[number], number)
    return f"{len(theirs.read())} entries of the promotion ledger of {task} lie in {theirs.where}"


@dataclass(frozen=True, slots=True)
class WithdrawnModel:
    """A model that was taken back: it is not promoted again until somebody reinstates it."""

    number: int
    model_version: str
    network: str
    at: str
    why: str


@dataclass(frozen=True, slots=True)
class Approved:
    """A version that a person has approved and that is not decided on yet."""

    number: int
    model_version: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says at one moment: the champion (None: nobody), since when and by whom, who was before it.

    `pending` is an intention whose end is not written: it is being carried out, or a crash cut it short.
    `approved` waits for its promotion; the decision on it, either way, uses the approval up.
    """

    champion: int | None = None
    model_version: str = ""
    evaluation_sha256: str = ""
    network: str = ""
    since: str = ""
    by: str = ""
    earlier: tuple[tuple[int, str], ...] = ()  # (number, model version) of the champions before, oldest first
    withdrawn: tuple[WithdrawnModel, ...] = ()
    pending: Mapping[str, Any] = field(default_factory=dict)
    approved: Approved | None = None

    def is_withdrawn(self, model_version: str, network: str = "") -> WithdrawnModel | None:
        """Why a model may not be promoted: it, or its network with another calibration, was withdrawn."""
        for one in reversed(self.withdrawn):
            if one.model_version == model_version or (network and one.network == network):
                return one
        return None


def standing(entries: Sequence[Mapping[str, Any]], until: str = "") -> Standing:
    """What entries (up to the time `until`, ISO 8601 in UTC; empty: all of them) add up to."""
    found = Standing()
    models: dict[int, Mapping[str, Any]] = {}  # number → evidence it was promoted on
    for entry in entries:
        if until and str(entry["at"]) > until:
            break
        found = replace(_after(found, entry, models), approved=_approved_after(found.approved, entry))
    return found


def _approved_after(before: Approved | None, entry: Mapping[str, Any]) -> Approved | None:
    if entry["event"] == "approved":
        return Approved(entry["version"], entry["model_version"], entry["approved_by"], entry["at"])
    decided = entry["event"] in ("promoted", "refused", "rolled_back", "repaired")
    concerned = before is not None and before.number in (entry.get("version"), entry.get("withdrawn", {}).get("number"))
    return None if decided and concerned else before


def _after(now: Standing, entry: Mapping[str, Any], models: dict[int, Mapping[str, Any]]) -> Standing:
    event = entry["event"]
    if event in INTENTIONS:
        if "evidence" in entry:
            models[entry["version"]] = entry["evidence"]
        return replace(now, pending=entry)
    if event == "reinstated":
        return replace(now, withdrawn=tuple(w for w in now.withdrawn if w.model_version != entry["model_version"]))
    if event not in ("promoted", "rolled_back", "repaired"):
        return replace(now, pending={})
    withdrawn = (*now.withdrawn, *(WithdrawnModel(**one) for one in entry.get("carried", ())))
    if "withdrawn" in entry:
        withdrawn = (*withdrawn, WithdrawnModel(**entry["withdrawn"], at=entry["at"], why=str(entry.get("why", ""))))
    if entry.get("version") == now.champion and now.champion is not None:
        return replace(now, withdrawn=withdrawn, pending={})
    earlier = now.earlier
    if now.champion is not None:
        earlier = (*earlier, (now.champion, now.model_version))
    evidence = models.get(entry.get("version") or 0, {})
    return Standing(
        champion=entry.get("version"),
        model_version=str(entry.get("model_version") or evidence.get("model_version", "")),
        evaluation_sha256=str(entry.get("evaluation_sha256") or evidence.get("evaluation_sha256", "")),
        network=str(entry.get("network") or evidence.get("network", "")),
        since=str(entry["at"]),
        by=str(entry.get("by", "")),
        earlier=earlier,
        withdrawn=withdrawn,
    )


def _parsed(line: str) -> dict[str, Any] | None:
    """The entry of a line, None for one that a crash tore."""
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return None
    known = isinstance(entry, dict) and ("event" in entry or formats.VERSION in entry)
    return entry if known else None


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False)


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()


def _head(lines: Sequence[str]) -> str:
    whole = [line for line in lines if _parsed(line) is not None]
    return _hash(whole[-1]) if whole else START
