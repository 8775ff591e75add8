"""Promotion and rollback whatever interrupts them: aliases and ledger are always those of one decision."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from derm_ml import DermError
from derm_ml.evaluation.comparison import ComparisonError
from derm_ml.metrics.intervals import Difference
from derm_ml.promotion import CHALLENGER, CHAMPION, PREVIOUS, ModelVersion, PromotionError, approval, transaction
from derm_ml.promotion.approval import approve
from derm_ml.promotion.decision import weigh
from derm_ml.promotion.doctor import examine
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.ledger import Ledger, standing
from derm_ml.promotion.policy import Policy
from derm_ml.promotion.transaction import champion_of, promote, reinstate, rollback
from derm_ml.promotion.trial import Trial, judge_cases
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")
GOOD = Evidence("aaa", "strong", "d1.dir", "split1", "e1", 100, 0.90, 0.85, 0.95)
WHY = "false alarms in clinic 3"


class Shelf:
    """Versions and aliases in memory; after `moves_left` moves of an alias the process dies."""

    def __init__(self, moves_left: int = 99) -> None:
        self.aliases: dict[str, int] = {}
        self.moves_left = moves_left
        self.damaged: dict[int, str] = {}
        self.restorable = False

    def alias(self, task, alias) -> int | None:
        return self.aliases.get(alias)

    def read(self, task, number) -> ModelVersion:
        if number in self.damaged:
            raise DermError(self.damaged[number])
        return version(number)

    def point(self, task, alias, number) -> None:
        if self.moves_left == 0:
            raise KeyboardInterrupt
        self.moves_left -= 1
        self.aliases[alias] = number
        if number is None:
            del self.aliases[alias]

    def restore(self, task, number, model_version) -> str:
        if not self.restorable:
            raise DermError("there is no copy")
        del self.damaged[number]
        return f"version {number} was put back"


class Data:
    """The present dataset is that of every candidate."""

    trials = Path("nowhere")

    def present(self, task) -> str:
        return ""

    def trial(self, task, challenger: str, champion: str) -> Path:
        return self.trials / f"{challenger}_{champion}"


class Tag:
    """The anchor in memory."""

    value: str | None = None

    def read(self) -> str | None:
        return self.value

    def write(self, heads) -> None:
        self.value = heads


def version(number: int) -> ModelVersion:
    return ModelVersion(number, Path(f"bundle{number}"), Path(f"evaluation{number}"))


@pytest.fixture
def values(monkeypatch) -> dict[int, float]:
    """The primary metric of each version, without files: version n is model `mn`, its network `nn`."""
    held = {1: 0.80, 2: 0.90, 3: 0.70, 4: 0.95}

    def evidence(task, candidate, data) -> Evidence:
        number = candidate.number
        return replace(GOOD, value=held[number], model_version=f"m{number}", network=f"n{number}")

    class Opened:
        @staticmethod
        def open_trusted(path):
            number = str(path).removeprefix("bundle")
            return SimpleNamespace(version=f"m{number}", card=f"n{number}")

    monkeypatch.setattr(transaction, "evidence_of", evidence)
    monkeypatch.setattr(transaction, "Bundle", Opened)
    monkeypatch.setattr(approval, "Bundle", Opened)
    monkeypatch.setattr(approval, "network_of", lambda card: card)
    monkeypatch.setattr("derm_ml.promotion.doctor.Bundle", Opened)
    monkeypatch.setattr(transaction, "network_of", lambda card: card)
    monkeypatch.setattr("derm_ml.promotion.doctor.network_of", lambda card: card)
    clear = Difference(0.05, 0.01, 0.09, 0.01, 100, groups=80)
    monkeypatch.setattr("derm_ml.promotion.decision._paired", lambda *_: clear)
    monkeypatch.setattr(
        "derm_ml.promotion.decision._champion_on", lambda task, champion, md5, data: evidence(task, champion, data)
    )
    return held


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl", Tag())


def go(number: int, shelf: Shelf, ledger: Ledger):
    return promote(TASK, number, shelf, ledger, Data())


def events(ledger: Ledger) -> list[tuple[str, int]]:
    return [(entry["event"], entry["version"]) for entry in ledger.entries()]


def test_both_decisions_are_written_down(values, shelf, ledger):
    for number, expected in ((1, True), (2, True), (3, False)):
        assert go(number, shelf, ledger).promote is expected
    assert shelf.aliases == {CHAMPION: 2, PREVIOUS: 1}
    assert events(ledger) == [("promoting", 1), ("promoted", 1), ("promoting", 2), ("promoted", 2), ("refused", 3)]


def test_a_policy_may_ask_for_a_silent_trial_and_refuses_without_one_or_on_a_bad_one(
    values, shelf, ledger, tmp_path, monkeypatch
):
    """The test split is years old; what counts is whether the model is better for those who come today."""
    cases = pd.DataFrame({"group": [f"g{n}" for n in range(60)]})
    for k, name in enumerate(TASK.labels):
        cases[f"target.{name}"] = [float(n % 3 == k) for n in range(60)]
        cases[f"challenger.{name}"] = cases[f"target.{name}"] * 0.6 + np.linspace(0.1, 0.2, 60)
        cases[f"champion.{name}"] = np.random.default_rng(k).random(60)
    asked = Policy.of(TASK).model_copy(update={"trial_patients": 50})
    monkeypatch.setattr(Data, "trials", tmp_path)

    def trial(challenger: str, champion: str) -> Trial:
        facts = {"task": TASK.name, "champion": champion, "challenger": challenger, "metric": "auc_mean"}
        return judge_cases(cases, TASK.labels, {"compared": 60}, **facts, first="2026-03-01", last="2026-03-28")

    def row(decision):
        return next((c for c in decision.checks if c.check == "silent_trial"), None)

    first = go(1, shelf, ledger)
    assert (first.promote, row(first)) == (True, None)
    trial("m4", "m1").write(tmp_path / "m4_m1")
    informed = weigh(TASK, transaction.evidence_of(TASK, version(4), None), version(1), Data())
    assert (informed.promote, row(informed).verdict) == (True, "for information")
    monkeypatch.setattr(Policy, "of", classmethod(lambda cls, task: asked))
    missing = go(2, shelf, ledger)
    assert not missing.promote
    assert "derm trial lesion_classification --labels FILE" in missing.reasons[0]
    assert row(missing).verdict == "not enough data"
    passed = go(4, shelf, ledger)
    assert (passed.promote, row(passed).verdict) == (True, "passed")
    trial("m2", "m4").write(tmp_path / "m3_m4")  # of another model, put where its own would be
    assert "is of m2 beside m4" in row(go(3, shelf, ledger)).evidence
    swapped = {f"champion.{name}": cases[f"challenger.{name}"] for name in TASK.labels}
    swapped |= {f"challenger.{name}": cases[f"champion.{name}"] for name in TASK.labels}
    cases = cases.assign(**swapped)
    values[5] = 0.97
    trial("m5", "m4").write(tmp_path / "m5_m4")
    worse = go(5, shelf, ledger)
    assert (worse.promote, row(worse).verdict) == (False, "failed")
    assert "it must lie above" in worse.reasons[0]
    asked = asked.model_copy(update={"trial_patients": 61})
    assert "the policy asks for 61 patients" in row(go(5, shelf, ledger)).evidence


@pytest.mark.parametrize("crash_after", [0, 1, 2])
@pytest.mark.parametrize("then", ["the same again", "another model", "rollback"])
def test_whatever_is_called_after_a_crash_finds_the_aliases_of_one_decision(
    values, shelf, ledger, monkeypatch, crash_after, then
):
    """Else champion and previous are one version, and the champion before is out of reach when it is needed."""
    for number in (1, 2):
        go(number, shelf, ledger)
    shelf.moves_left = crash_after
    written = ledger.append
    if crash_after == 2:  # both aliases have moved, the fact is not written

        def dies_at_the_fact(entry):
            if entry["event"] == "promoted":
                raise KeyboardInterrupt
            return written(entry)

        monkeypatch.setattr(ledger, "append", dies_at_the_fact)
    with pytest.raises(KeyboardInterrupt):
        go(4, shelf, ledger)
    shelf.moves_left = 99
    monkeypatch.setattr(ledger, "append", written)
    took_effect = crash_after > 0
    assert champion_of(TASK, shelf, ledger)  # a reader in between is told of no disagreement
    if then == "the same again":
        assert go(4, shelf, ledger).promote
        assert shelf.aliases == {CHAMPION: 4, PREVIOUS: 2}
    elif then == "another model":
        assert not go(3, shelf, ledger).promote
        assert shelf.aliases == ({CHAMPION: 4, PREVIOUS: 2} if took_effect else {CHAMPION: 2, PREVIOUS: 1})
    else:
        rollback(TASK, shelf, ledger, WHY)
        assert shelf.aliases == ({CHAMPION: 2} if took_effect else {CHAMPION: 1})
    assert events(ledger).count(("promoted", 4)) == (took_effect or then == "the same again")


@pytest.mark.parametrize("cut", ["before the anchor", "before the line", "after the line"])
def test_a_crash_while_a_line_is_written_is_no_forgery(values, shelf, ledger, monkeypatch, cut):
    """Else every power cut would block promotion until an operator has looked."""
    go(1, shelf, ledger)
    told = []

    def dies(*_):
        raise KeyboardInterrupt

    def write(heads):
        if len(told) == {"before the anchor": 0, "before the line": 9, "after the line": 1}[cut]:
            dies()
        told.append(heads)
        ledger.anchor.value = heads

    with monkeypatch.context() as broken:
        broken.setattr(ledger.anchor, "write", write)
        if cut == "before the line":
            broken.setattr("derm_ml.promotion.ledger_lines.os.write", dies)
        with ledger.locked(), pytest.raises(KeyboardInterrupt):
            ledger.append({"event": "refused", "task": TASK.name, "version": 9})
    assert ("refused", 9) in events(ledger) or cut != "after the line"
    assert go(2, shelf, ledger).promote
    assert shelf.aliases[CHAMPION] == 2


def test_a_comparison_that_cannot_be_made_is_a_refusal_in_the_ledger(values, shelf, ledger, monkeypatch):
    monkeypatch.setattr("derm_ml.promotion.decision.Policy.of", lambda task: Policy(floor=0.6, worse_by=0.02))

    def refuse(*_):
        raise ComparisonError("measured against other labels")

    go(1, shelf, ledger)
    monkeypatch.setattr("derm_ml.promotion.decision._paired", refuse)
    decision = go(2, shelf, ledger)
    assert not decision.promote
    assert "measured against other labels" in decision.reasons[0]
    assert events(ledger)[-1] == ("refused", 2)


@pytest.mark.parametrize(
    ("error", "raised"), [(DermError("the disk is gone"), False), (OSError("no space left"), True)]
)
def test_a_refusal_by_an_error_is_an_entry_too(values, shelf, ledger, monkeypatch, error, raised):
    """Whoever asks later why there was no promotion on that day finds the reason."""

    def fails(*_):
        raise error

    monkeypatch.setattr(transaction, "evidence_of", fails)
    if raised:
        with pytest.raises(OSError, match="no space left"):
            go(1, shelf, ledger)
    else:
        assert not go(1, shelf, ledger).promote
    assert str(error) in ledger.entries()[-1]["reasons"][0]
    assert shelf.aliases == {}


def test_a_damaged_champion_is_a_reason_and_not_the_end(values, shelf, ledger):
    """One flipped bit in the champion must not stop every later model for ever."""
    go(1, shelf, ledger)
    shelf.damaged[1] = "model.onnx: its sha256 is not the one in bundle.json"
    decision = go(2, shelf, ledger)
    assert not decision.promote
    assert "the champion, version 1, cannot be read" in decision.reasons[0]
    assert "`derm doctor lesion_classification --repair --why …` restores or withdraws it" in decision.reasons[0]
    checks = examine(TASK, shelf, ledger, repair=True, why="disk error")
    assert "version 1 is withdrawn, nobody is champion now" in checks[-1].message
    assert go(2, shelf, ledger).promote


def test_damaged_files_are_put_back_where_there_is_a_copy(values, shelf, ledger):
    go(1, shelf, ledger)
    shelf.damaged[1], shelf.restorable = "gone", True
    assert not examine(TASK, shelf, ledger)[-1].ok
    assert examine(TASK, shelf, ledger, repair=True, why="disk error")[-1].message == "repaired: version 1 was put back"
    assert all(check.ok for check in examine(TASK, shelf, ledger))
    assert ledger.entries()[-1]["why"] == "disk error"


# ------------------------------------------------------------------ rollback


def test_what_was_rolled_back_does_not_return_by_the_next_promotion(values, shelf, ledger):
    for number in (1, 2):
        go(number, shelf, ledger)
    said = rollback(TASK, shelf, ledger, WHY)
    assert said == "version 1 is the champion of lesion_classification again; version 2 is withdrawn"
    decision = go(2, shelf, ledger)
    assert not decision.promote
    assert f"(version 2) because: {WHY}" in decision.reasons[0]
    assert go(4, shelf, ledger).promote  # another model is judged as ever
    reinstate(TASK, 2, shelf, ledger, "it was the camera")
    assert "is not better than" in go(2, shelf, ledger).reasons[0]


def test_a_second_rollback_goes_further_back_and_not_forth_again(values, shelf, ledger):
    for number in (1, 2, 4):
        go(number, shelf, ledger)
    rollback(TASK, shelf, ledger, WHY)
    assert shelf.aliases == {CHAMPION: 2}
    rollback(TASK, shelf, ledger, WHY)
    assert shelf.aliases == {CHAMPION: 1}
    with pytest.raises(PromotionError, match="no previous champion to go back to"):
        rollback(TASK, shelf, ledger, WHY)
    assert "nobody is the champion" in rollback(TASK, shelf, ledger, WHY, leave_empty=True)
    assert shelf.aliases == {}
    assert [w.number for w in standing(ledger.entries()).withdrawn] == [4, 2, 1]


def test_a_previous_champion_that_cannot_be_opened_is_passed_over(values, shelf, ledger):
    for number in (1, 2, 4):
        go(number, shelf, ledger)
    shelf.damaged[2] = "gone"
    rollback(TASK, shelf, ledger, WHY)
    assert shelf.aliases == {CHAMPION: 1}


def test_a_rollback_says_why(values, shelf, ledger):
    go(1, shelf, ledger)
    with pytest.raises(PromotionError, match="say why"):
        rollback(TASK, shelf, ledger, " ")


def test_without_a_champion_there_is_nothing_to_roll_back(shelf, ledger):
    with pytest.raises(PromotionError, match="has no champion to withdraw"):
        rollback(TASK, shelf, ledger, WHY)


@pytest.mark.parametrize("crash_after", [0, 1])
def test_a_rollback_cut_short_is_finished_and_not_done_twice(values, shelf, ledger, crash_after):
    """Somebody rolls back because the champion is harmful: trying again after a crash must not bring it back."""
    for number in (1, 2):
        go(number, shelf, ledger)
    shelf.moves_left = crash_after
    with pytest.raises(KeyboardInterrupt):
        rollback(TASK, shelf, ledger, WHY)
    shelf.moves_left = 99
    assert "version 1 is the champion" in rollback(TASK, shelf, ledger, WHY)
    assert shelf.aliases == {CHAMPION: 1}
    assert events(ledger)[-2:] == [("rolling_back", 1), ("rolled_back", 1)]
    assert "was withdrawn" in go(2, shelf, ledger).reasons[0]


# ------------------------------------------------- ledger against registry


def test_an_alias_moved_by_hand_stops_everything_until_it_is_repaired(values, shelf, ledger):
    """A click in the registry's page made a model champion that no evidence speaks for."""
    for number in (1, 2):
        go(number, shelf, ledger)
    shelf.aliases[CHAMPION] = 3
    for call in (lambda: go(4, shelf, ledger), lambda: rollback(TASK, shelf, ledger, WHY),
                 lambda: champion_of(TASK, shelf, ledger)):  # fmt: skip
        with pytest.raises(PromotionError) as told:
            call()
        assert "the ledger says that version 2 is the champion of lesion_classification" in str(told.value)
        assert "the registry's alias says version 3" in str(told.value)
        assert "`derm doctor lesion_classification --repair --why …` moves it back" in str(told.value)
    assert ledger.entries()[-1]["event"] == "refused"
    assert not examine(TASK, shelf, ledger)[-1].ok
    examine(TASK, shelf, ledger, repair=True, why="a click")
    assert shelf.aliases[CHAMPION] == 2
    assert go(4, shelf, ledger).promote


def test_a_registry_without_the_champion_is_not_a_task_without_one(values, shelf, ledger):
    """An empty database beside a full ledger made the next model champion unopposed."""
    go(2, shelf, ledger)
    shelf.aliases.clear()
    with pytest.raises(PromotionError, match="says nobody"):
        go(1, shelf, ledger)


def test_a_repair_says_why(values, shelf, ledger):
    with pytest.raises(PromotionError, match="say why"):
        examine(TASK, shelf, ledger, repair=True)


def test_a_ledger_of_a_newer_version_is_neither_damaged_nor_repaired(values, shelf, ledger):
    """A repair would put it aside and forget its decisions, because an older program was asked."""
    go(1, shelf, ledger)
    ledger.lines.path.write_text(
        ledger.lines.path.read_text() + json.dumps({"schema_version": 99, "what": "promoted"}) + "\n"
    )
    before = sorted((path.name, path.read_bytes()) for path in ledger.lines.path.parent.iterdir())
    for call in (lambda: go(2, shelf, ledger), lambda: examine(TASK, shelf, ledger, repair=True, why="it is red")):
        with pytest.raises(DermError, match=r"has version 99 of the ledger format.*install a newer version of derm"):
            call()
    assert sorted((path.name, path.read_bytes()) for path in ledger.lines.path.parent.iterdir()) == before


def test_who_damages_the_ledger_reinstates_nobody(values, shelf, ledger):
    for number in (1, 2):
        go(number, shelf, ledger)
    rollback(TASK, shelf, ledger, WHY)
    lines = ledger.lines.path.read_text().splitlines()
    lines[0] = lines[0].replace("0.8", "0.9")
    ledger.lines.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(PromotionError, match="does not follow from what stands before it"):
        go(2, shelf, ledger)
    examine(TASK, shelf, ledger, repair=True, why="a line was edited")
    assert shelf.aliases[CHAMPION] == 1
    assert "was withdrawn" in go(2, shelf, ledger).reasons[0]
    assert len(list(ledger.lines.path.parent.glob("*.damaged-1.jsonl"))) == 1


def test_a_ledger_from_before_the_chain_goes_on(values, shelf, ledger):
    """What was promoted with an older version stays champion, and its ledger is sealed by the next entry."""
    old = [
        {"at": "2026-11-01T10:00:00.000+00:00", "event": "promoting", "task": TASK.name, "version": 1,
         "champion_before": None, "reasons": [], "policy": {}, "evidence": asdict(replace(GOOD, model_version="m1"))},
        {"at": "2026-11-01T10:00:01.000+00:00", "event": "promoted", "task": TASK.name, "version": 1},
    ]  # fmt: skip
    ledger.lines.path.write_text("".join(json.dumps(entry) + "\n" for entry in old))
    shelf.aliases[CHAMPION] = 1
    assert champion_of(TASK, shelf, ledger).model_version == "m1"
    assert go(2, shelf, ledger).promote
    assert [event for event, *_ in [(e["event"],) for e in ledger.entries()]][2:] == ["sealed", "promoting", "promoted"]
    text = ledger.lines.path.read_text()
    ledger.lines.path.write_text(text.replace("2026-11-01T10:00:01", "2026-11-01T10:00:02"))
    with pytest.raises(PromotionError, match="line 3 does not follow"):
        champion_of(TASK, shelf, ledger)


def test_an_approval_names_a_person_and_is_used_up_by_the_decision(values, shelf, ledger):
    """An old approval must not promote what is registered years later."""
    shelf.aliases[CHALLENGER] = 1
    assert approve(TASK, None, shelf, ledger, " Dr Ada\x1b  Example ").endswith("approved by Dr Ada\\x1b Example")
    found = standing(ledger.entries()).approved
    assert found is not None
    assert (found.number, found.model_version) == (1, "m1")
    go(4, shelf, ledger)  # a decision on another version
    assert standing(ledger.entries()).approved is not None
    rollback(TASK, shelf, ledger, WHY, leave_empty=True)
    go(1, shelf, ledger)
    assert standing(ledger.entries()).approved is None
    assert ledger.entries()[-2]["approved_by"] == "Dr Ada\\x1b Example"
    approve(TASK, 3, shelf, ledger, "Dr Ada Example")
    assert not go(3, shelf, ledger).promote, "an approval does not overrule the evidence"
    assert standing(ledger.entries()).approved is None


def test_what_cannot_be_approved(values, shelf, ledger):
    with pytest.raises(PromotionError, match="--by NAME"):
        approve(TASK, 1, shelf, ledger, "  ")
    with pytest.raises(PromotionError, match="has no challenger"):
        approve(TASK, None, shelf, ledger, "Dr Ada Example")
    for number in (1, 2):
        go(number, shelf, ledger)
    with pytest.raises(PromotionError, match="is the champion of lesion_classification already"):
        approve(TASK, 2, shelf, ledger, "Dr Ada Example")
    rollback(TASK, shelf, ledger, WHY)
    with pytest.raises(PromotionError, match="was withdrawn"):
        approve(TASK, 2, shelf, ledger, "Dr Ada Example")


@pytest.mark.parametrize("moves_left", [0, 1])
def test_an_approval_finishes_a_promotion_that_a_crash_cut_short(values, shelf, ledger, moves_left):
    """Written behind an intention it would hide it: champion and previous would stay as the crash left them."""
    go(1, shelf, ledger)
    shelf.moves_left = moves_left
    with pytest.raises(KeyboardInterrupt):
        go(2, shelf, ledger)
    shelf.moves_left = 99
    approve(TASK, 4, shelf, ledger, "Dr Ada Example")
    now = standing(ledger.entries())
    assert now.champion == shelf.alias(TASK, CHAMPION)
    assert not now.pending
