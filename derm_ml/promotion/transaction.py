"""Moving the champion: decide → alias → ledger, one at a time, finished by the next call after a crash.

    promote(task, number, versions, ledger, data)
    rollback(task, versions, ledger, why="too many false alarms in clinic 3")
    reinstate(task, number, versions, ledger, why="it was the camera")

Before anything moves, the ledger's last champion must be the registry's: `champion_of` raises a sentence otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from derm_ml import DermError
from derm_ml.bundles.bundle import Bundle
from derm_ml.promotion.contract import CHAMPION, PREVIOUS, Data, ModelVersion, PromotionError, Versions
from derm_ml.promotion.decision import Decision, evidence_of, weigh
from derm_ml.promotion.evidence import Evidence, network_of
from derm_ml.promotion.ledger import INTENTIONS, Ledger, LedgerError, Standing, standing
from derm_ml.promotion.looks import Looked, Looks
from derm_ml.promotion.policy import Policy
from derm_ml.task import Task


def champion_of(task: Task, versions: Versions, ledger: Ledger) -> Standing:
    """What the ledger says of the champion, if the registry says the same; a move that is under way counts as either.

    Raises `PromotionError` with what disagrees and the command that repairs it.
    """
    try:
        now = standing(ledger.entries())
    except LedgerError as error:
        raise PromotionError(f"{error}; {_repair(task)} shows the rest and begins a new ledger") from error
    alias = versions.alias(task, CHAMPION)
    allowed = {now.champion}
    if now.pending:
        allowed |= {now.pending.get("version"), now.pending.get("champion_before")}
    if alias not in allowed:
        raise PromotionError(
            f"the ledger says that {_named(now.champion)} is the champion of {task.name}, the registry's alias says "
            f"{_named(alias)}: it was moved by something else than a promotion, or this is another registry; "
            f"{_repair(task)} moves it back"
        )
    return now


def read_champion(task: Task, versions: Versions, now: Standing) -> ModelVersion | None:
    """The champion's files, of the very model the ledger names; None without a champion.

    Raises `DermError` if they cannot be read or are another model's.
    """
    number = versions.alias(task, CHAMPION) if now.pending else now.champion
    if number is None:
        return None
    version = versions.read(task, number)
    found = Bundle.open_trusted(version.bundle).version
    if not now.pending and now.model_version and found != now.model_version:
        raise PromotionError(
            f"version {number} in the registry is now model {found}, the ledger promoted model {now.model_version}: "
            f"the registry was changed; {_repair(task)} withdraws it"
        )
    return version


def promote(task: Task, number: int, versions: Versions, ledger: Ledger, data: Data) -> Decision:
    """Decide on a registered version and, if the decision says so, move `champion` (the old one becomes `previous`).

    One promotion at a time. The intention is in the ledger before the first alias moves and the fact after the last,
    so what a crash cuts short is finished by the next call, whatever that asks for. A refusal is written down too, one
    by an error as well. Raises `PromotionError` if ledger and registry disagree.
    """
    with ledger.locked():
        entry: dict[str, Any] = {"task": task.name, "version": number}
        finish(task, versions, ledger)
        try:
            now = champion_of(task, versions, ledger)
        except PromotionError as error:
            with contextlib.suppress(LedgerError):  # into a damaged ledger nothing is written
                ledger.append({"event": "refused", **entry, "reasons": [str(error)]})
            raise
        if now.champion == number:
            return Decision.champion_already(number)
        entry |= {"champion_before": now.champion, "policy": Policy.of(task).model_dump()}
        if now.approved and now.approved.number == number:
            entry |= {"approved_by": now.approved.by}
        try:
            decision, evidence, looked = _decided(task, number, versions, ledger, now, data)
        except DermError as error:
            decision, evidence, looked = Decision(False, (str(error),)), {}, None
        except Exception as error:
            ledger.append({"event": "refused", **entry, "reasons": [f"{type(error).__name__}: {error}"]})
            raise
        entry |= {"reasons": decision.reasons, "evidence": evidence} | ({"looked": asdict(looked)} if looked else {})
        if not decision.promote:
            ledger.append({"event": "refused", **entry})
            return decision
        ledger.append({"event": "promoting", **entry})
        _move(task, versions, ledger, {"event": "promoted", **_identity(number, evidence)}, now.champion)
    return decision


def _decided(
    task: Task, number: int, versions: Versions, ledger: Ledger, now: Standing, data: Data
) -> tuple[Decision, Mapping[str, Any], Looked | None]:
    """The decision on a version, its evidence, and how many models were looked at on its test split.

    Raises `DermError` where the candidate cannot be read.
    """
    candidate = versions.read(task, number)
    model = Bundle.open_trusted(candidate.bundle)
    if why := withdrawn_because(task, model, now):
        return Decision(False, (why,)), {"model_version": model.version}, None
    evidence = evidence_of(task, candidate, data)
    looked = looked_at(evidence, ledger, now, "promote")
    try:
        champion = read_champion(task, versions, now)
    except DermError as error:
        why = f"the champion, version {now.champion}, cannot be read: {error}; {_repair(task)} restores or withdraws it"
        return Decision(False, (*evidence.faults, why)), asdict(evidence), looked
    return weigh(task, evidence, champion, data, looked), asdict(evidence), looked


def looked_at(evidence: Evidence, ledger: Ledger, now: Standing, how: str) -> Looked:
    """Count the look at a candidate's test split; how many models but the champion were looked at on it."""
    looks = Looks(ledger)
    looks.add(evidence.split_hash, evidence.network, evidence.model_version, how)
    return looks.at(evidence.split_hash, besides=now.network or now.model_version)


def withdrawn_because(task: Task, model: Bundle, now: Standing) -> str:
    """Why a model that was withdrawn is not promoted; empty for one that was not."""
    before = now.is_withdrawn(model.version, network_of(model.card))
    if before is None:
        return ""
    what = "this model" if before.model_version == model.version else "this network, with another calibration,"
    return (
        f"{what} was withdrawn on {before.at[:10]} (version {before.number}) because: {before.why}; "
        f"`derm reinstate {task.name} {before.number} --why …` lifts that"
    )


def rollback(task: Task, versions: Versions, ledger: Ledger, why: str, leave_empty: bool = False) -> str:
    """Withdraw the champion and restore the last one before it that can be opened and was not withdrawn itself.

    `leave_empty`: where there is none, the task is left without a champion. A rollback that a crash cut short is
    finished first, and is then all that happens. Returns a sentence. Raises `PromotionError` if there is nothing to go
    back to, or no reason is given.
    """
    if not why.strip():
        raise PromotionError("say why the champion is withdrawn (--why): whoever finds it in the ledger needs to know")
    with ledger.locked():
        finished = finish(task, versions, ledger)
        if finished and finished["event"] == "rolled_back":
            return (
                f"{_named(finished['version'])} is the champion of {task.name} again: a rollback cut short was finished"
            )
        now = champion_of(task, versions, ledger)
        if now.champion is None:
            raise PromotionError(f"{task.name} has no champion to withdraw")
        target, passed_over = _earlier(task, versions, now)
        if target is None and not leave_empty:
            more = f" ({'; '.join(passed_over)})" if passed_over else ""
            raise PromotionError(
                f"{task.name} has no previous champion to go back to{more}: "
                f"`derm rollback {task.name} --leave-empty --why …` leaves it without one"
            )
        _roll_back(task, versions, ledger, now, target, why)
    return f"{_named(target)} is the champion of {task.name} again; version {now.champion} is withdrawn"


def withdraw(task: Task, versions: Versions, ledger: Ledger, now: Standing, why: str) -> int | None:
    """`rollback` within a lock that is held, leaving nobody where there is nobody to go back to; the new champion."""
    target, _ = _earlier(task, versions, now)
    _roll_back(task, versions, ledger, now, target, why)
    return target


def _roll_back(
    task: Task, versions: Versions, ledger: Ledger, now: Standing, target: int | None, why: str
) -> dict[str, Any]:
    gone = {"number": now.champion, "model_version": now.model_version, "network": now.network}
    entry = {"task": task.name, "version": target, "why": why, "withdrawn": gone}
    if target is not None:
        model = Bundle.open_trusted(versions.read(task, target).bundle)
        entry |= {"model_version": model.version, "network": network_of(model.card)}
    ledger.append({"event": "rolling_back", **entry, "champion_before": now.champion})
    return _move(task, versions, ledger, {"event": "rolled_back", **entry}, None)


def _earlier(task: Task, versions: Versions, now: Standing) -> tuple[int | None, list[str]]:
    """The last champion before this one that may be one again, and why later ones may not."""
    passed_over: list[str] = []
    for number, model_version in reversed(now.earlier):
        if number == now.champion or now.is_withdrawn(model_version):
            continue
        try:
            found = Bundle.open_trusted(versions.read(task, number).bundle)
        except DermError as error:
            passed_over.append(f"version {number}: {error}")
            continue
        if model_version and found.version != model_version:
            passed_over.append(f"version {number} is no longer model {model_version}")
            continue
        return number, passed_over
    return None, passed_over


def reinstate(task: Task, number: int, versions: Versions, ledger: Ledger, why: str) -> str:
    """Let a withdrawn version be promoted again; it does not become champion by this. Returns a sentence."""
    if not why.strip():
        raise PromotionError("say why the version may be promoted again (--why)")
    with ledger.locked():
        finish(task, versions, ledger)
        now = champion_of(task, versions, ledger)
        before = next((w for w in now.withdrawn if w.number == number), None)
        if before is None:
            raise PromotionError(f"version {number} of {task.name} is not withdrawn")
        ledger.append(
            {
                "event": "reinstated",
                "task": task.name,
                "version": number,
                "model_version": before.model_version,
                "why": why,
            }
        )
    return f"version {number} of {task.name} may be promoted again"


def finish(task: Task, versions: Versions, ledger: Ledger) -> dict[str, Any] | None:
    """Carry out what a crash cut short, the ledger's last word being an intention; the entry that ends it, or None.

    A promotion whose `champion` had not moved changed nothing: it is decided again, on the evidence of that day.
    """
    try:
        last: dict[str, Any] = next(iter(ledger.entries()[-1:]), {"event": ""})
    except LedgerError:
        return None  # `champion_of` says what is wrong with it
    if last["event"] not in INTENTIONS:
        return None
    own = ("task", "version", "why", "withdrawn", "model_version", "network")
    done = {name: last[name] for name in own if name in last}
    if last["event"] == "rolling_back":
        return _move(task, versions, ledger, {"event": "rolled_back", **done}, None)
    if versions.alias(task, CHAMPION) == last["version"]:
        entry = {"event": "promoted", **_identity(last["version"], last.get("evidence", {})), "task": task.name}
        return _move(task, versions, ledger, entry, last["champion_before"])
    return None


def _move(
    task: Task, versions: Versions, ledger: Ledger, entry: Mapping[str, Any], previous: int | None
) -> dict[str, Any]:
    """`champion` first: whether it points to the new version says whether the decision took effect."""
    ledger.require_lock()
    versions.point(task, CHAMPION, entry["version"])
    if previous != entry["version"]:
        versions.point(task, PREVIOUS, previous)
    return ledger.append({**entry, "task": task.name})


def _identity(number: int, evidence: Mapping[str, Any]) -> dict[str, Any]:
    names = ("model_version", "evaluation_sha256", "network")
    return {"version": number, **{name: evidence[name] for name in names if name in evidence}}


def _named(number: int | None) -> str:
    return "nobody" if number is None else f"version {number}"


def _repair(task: Task) -> str:
    return f"`derm doctor {task.name} --repair --why …`"
