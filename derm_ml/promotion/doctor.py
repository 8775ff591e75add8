"""Do ledger, registry and the champion's files agree? And if not, with `repair`: mend what can be mended.

    for check in examine(task, versions, ledger, repair=True, why="restored the database of Monday"):
        print(check.ok, check.name, check.message)

In this order: a damaged ledger is put aside and a new one begun, an alias goes back to where the ledger says, damaged
files of the champion are put back from a copy, else it is withdrawn. Each repair is an entry of the ledger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from derm_ml import DermError
from derm_ml.bundles.bundle import Bundle
from derm_ml.promotion.contract import CHAMPION, PREVIOUS, PromotionError, Versions
from derm_ml.promotion.evidence import network_of
from derm_ml.promotion.ledger import Ledger, LedgerError, Standing, standing
from derm_ml.promotion.transaction import champion_of, finish, read_champion, withdraw
from derm_ml.task import Task


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is as it should be (after a repair), and one sentence."""

    name: str
    ok: bool
    message: str


def examine(task: Task, versions: Versions, ledger: Ledger, *, repair: bool = False, why: str = "") -> list[Check]:
    """Ledger, alias and files of the champion, one check each; what depends on a broken one is not looked at.

    Raises `PromotionError` if something is to be repaired and no reason is given.
    """
    if repair and not why.strip():
        raise PromotionError("say why this has to be repaired (--why): it goes into the ledger")
    with ledger.locked():
        finish(task, versions, ledger)
        checks = []
        for check in (_ledger(task, versions, ledger, repair, why), _alias(task, versions, ledger, repair, why)):
            checks.append(check)
            if not check.ok:
                return checks
        return [*checks, _files(task, versions, ledger, repair, why)]


def _ledger(task: Task, versions: Versions, ledger: Ledger, repair: bool, why: str) -> Check:
    try:
        entries = ledger.entries()
    except LedgerError as error:
        if not repair:
            return Check("ledger", False, f"{error}; --repair puts it aside and begins a new one")
        number, model = versions.alias(task, CHAMPION), {}
        if number is not None:
            try:
                model = _model(task, versions, number)
            except DermError as damaged:
                versions.point(task, CHAMPION, None)
                number, model = None, {"not_kept": str(damaged)}
        entry = {"event": "repaired", "task": task.name, "version": number, "found": str(error), "why": why, **model}
        # who damages a ledger must not thereby reinstate what was withdrawn
        entry["carried"] = [asdict(one) for one in standing(ledger.unverified()).withdrawn]
        begun = ledger.restart(entry)
        kept = f", the old one is kept as {begun['kept']}" if "kept" in begun else ""
        who = "nobody is champion" if number is None else f"version {number} is champion, as the registry says"
        return Check("ledger", True, f"repaired: {error}; a new ledger was begun{kept}; {who}")
    chained = sum("previous" in entry for entry in entries)
    return Check("ledger", True, f"{len(entries)} entries, {chained} of them chained and unchanged")


def _alias(task: Task, versions: Versions, ledger: Ledger, repair: bool, why: str) -> Check:
    try:
        now = champion_of(task, versions, ledger)
    except PromotionError as error:
        if not repair:
            return Check("champion", False, str(error))
        return _moved_back(task, versions, ledger, str(error), why)
    who = "nobody" if now.champion is None else f"version {now.champion}, model {now.model_version or 'unknown'}"
    return Check("champion", True, f"ledger and registry name {who}")


def _moved_back(task: Task, versions: Versions, ledger: Ledger, found: str, why: str) -> Check:
    """The alias goes where the ledger says; where the registry has no such version, nobody is champion."""
    now = standing(ledger.entries())
    number, note = now.champion, ""
    if number is not None:
        try:
            _model(task, versions, number)
        except DermError as error:
            number, note = None, f" (version {number} cannot be read: {error})"
    versions.point(task, CHAMPION, number)
    versions.point(task, PREVIOUS, None)
    same = {"model_version": now.model_version, "network": now.network} if number is not None else {}
    ledger.append({"event": "repaired", "task": task.name, "version": number, "found": found, "why": why, **same})
    who = "nobody is champion now" if number is None else f"`champion` points to version {number} again"
    return Check("champion", True, f"repaired: {who}{note}")


def _files(task: Task, versions: Versions, ledger: Ledger, repair: bool, why: str) -> Check:
    now = standing(ledger.entries())
    try:
        found = read_champion(task, versions, now)
    except DermError as error:
        if not repair:
            return Check("files", False, f"{error}; --repair restores them from a copy, or withdraws the version")
        return _restored(task, versions, ledger, now, str(error), why)
    if found is None:
        return Check("files", True, "there is no champion")
    return Check("files", True, f"bundle and evaluation of version {found.number} are whole")


def _restored(task: Task, versions: Versions, ledger: Ledger, now: Standing, found: str, why: str) -> Check:
    assert now.champion is not None
    try:
        said = versions.restore(task, now.champion, now.model_version)
        read_champion(task, versions, now)
    except DermError as error:
        target = withdraw(task, versions, ledger, now, f"{why}: {found}")
        who = "nobody is champion now" if target is None else f"version {target} is champion again"
        return Check("files", True, f"repaired: {error}; version {now.champion} is withdrawn, {who}")
    same = {"version": now.champion, "model_version": now.model_version}
    ledger.append({"event": "repaired", "task": task.name, **same, "found": found, "why": why, "done": said})
    return Check("files", True, f"repaired: {said}")


def _model(task: Task, versions: Versions, number: int) -> dict[str, Any]:
    model = Bundle.open_trusted(versions.read(task, number).bundle)
    return {"model_version": model.version, "network": network_of(model.card)}
