"""Promotion: who would be harmed by each refusal that does not happen is a patient."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.comparison import ComparisonError
from derm_ml.ledger import Ledger
from derm_ml.metrics.intervals import Difference
from derm_ml.promotion import (
    CHAMPION,
    PREVIOUS,
    Decision,
    Evidence,
    ModelVersion,
    Policy,
    PromotionError,
    decide,
    promote,
    rollback,
)
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")
POLICY = Policy(floor=0.6, margin=0.01)
GOOD = Evidence("aaa", "strong", "d1.dir", "split1", "e1", 100, 0.90, 0.85, 0.95)


def against(candidate: Evidence, champion: Evidence | None = None) -> Decision:
    return decide(candidate, champion, POLICY, "auc_mean")


def test_a_good_first_model_becomes_champion():
    assert against(GOOD).promote


def test_a_better_model_replaces_the_champion():
    decision = against(GOOD, replace(GOOD, value=0.85))
    assert decision.promote
    assert "0.9000 against the champion's 0.8500" in decision.reasons[0]


@pytest.mark.parametrize(
    ("candidate", "champion", "reason"),
    [
        (replace(GOOD, red=("ranks_better_than_chance: no",)), None, "blocking gate is red: ranks_better_than_chance"),
        (replace(GOOD, faults=("the evaluation is of model x",)), None, "the evaluation is of model x"),
        (replace(GOOD, value=None), None, "missing or undefined"),
        (replace(GOOD, value=float("nan")), None, "missing or undefined"),
        (replace(GOOD, value=float("inf")), None, "missing or undefined"),
        (replace(GOOD, value=0.59), None, "below the floor"),
        (GOOD, GOOD, "does not exceed"),
        (GOOD, replace(GOOD, value=0.895), "does not exceed"),
        (GOOD, replace(GOOD, value=0.95), "does not exceed"),
        (GOOD, replace(GOOD, value=0.7, split_hash="split2"), "measured on split split1, the champion on split split2"),
        (GOOD, replace(GOOD, value=None), "the champion's auc_mean is missing"),
        (GOOD, replace(GOOD, value=0.7, faults=("damaged",)), "the champion's evidence cannot be used: damaged"),
    ],
)
def test_it_is_refused_with_its_reason(candidate, champion, reason):
    decision = against(candidate, champion)
    assert not decision.promote
    assert any(reason in said for said in decision.reasons)


@pytest.mark.parametrize(
    ("low", "high", "promoted"),
    [(0.001, 0.09, True), (-0.019, 0.1, True), (-0.021, 0.1, False), (-0.2, -0.1, False)],
)
def test_the_paired_test_is_one_of_non_inferiority_to_the_champion(low, high, promoted):
    """A higher AUC on 50 patients can be luck: the interval of the difference says how bad the luck may be."""
    policy = Policy(floor=0.6, worse_by=0.02)
    paired = Difference(0.05, low, high, 0.1, 100)
    decision = decide(GOOD, replace(GOOD, value=0.85), policy, "auc_mean", paired)
    assert decision.promote is promoted
    assert f"{low:+.4f} to {high:+.4f}" in decision.reasons[0]


def test_where_the_paired_test_is_asked_for_and_cannot_be_made_nothing_is_promoted():
    decision = decide(GOOD, replace(GOOD, value=0.85), Policy(floor=0.6, worse_by=0.02), "auc_mean", None)
    assert not decision.promote
    assert "cannot be reckoned" in decision.reasons[0]


numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(numbers, st.one_of(st.none(), numbers), st.booleans(), st.booleans())
def test_whatever_the_numbers_a_worse_model_never_wins(value, champion_value, red, other_split):
    """The property behind all cases above: promotion needs a finite, better number and no reason against it."""
    candidate = replace(GOOD, value=value, red=("gate: no",) if red else ())
    champion = replace(GOOD, value=champion_value, split_hash="other" if other_split else GOOD.split_hash)
    decision = against(candidate, champion)
    assert decision.reasons
    if decision.promote:
        assert not red
        assert not other_split
        assert value > champion_value + POLICY.margin
        assert value >= POLICY.floor


class Shelf:
    """Versions and aliases in memory; `crash_after` moves of an alias the process dies."""

    def __init__(self, crash_after: int = 99) -> None:
        self.aliases: dict[str, int] = {}
        self.moves_left = crash_after

    def version(self, task, alias) -> ModelVersion | None:
        number = self.aliases.get(alias)
        return ModelVersion(number, Path(f"bundle{number}"), Path(f"evaluation{number}")) if number else None

    def point(self, task, alias, number) -> None:
        if self.moves_left == 0:
            raise KeyboardInterrupt
        self.moves_left -= 1
        self.aliases[alias] = number


@pytest.fixture
def evidence(monkeypatch):
    """Evidence by bundle name, without files."""
    held = {"bundle1": replace(GOOD, value=0.80), "bundle2": GOOD, "bundle3": replace(GOOD, value=0.70)}
    monkeypatch.setattr(
        Evidence, "read", classmethod(lambda cls, task, bundle, evaluation, own_data=True: held[str(bundle)])
    )
    return held


def version(number: int) -> ModelVersion:
    return ModelVersion(number, Path(f"bundle{number}"), Path(f"evaluation{number}"))


def events(ledger: Ledger) -> list[tuple[str, int]]:
    return [(entry["event"], entry["version"]) for entry in ledger.entries()]


class Data:
    """The present dataset (empty: none is prepared); what is measured again says what `then` makes of it."""

    def __init__(self, present: str = "", then=None) -> None:
        self._present, self._then, self.asked = present, then, []

    def present(self, task) -> str:
        return self._present

    def measure(self, task, bundle, dataset_md5) -> Path:
        assert self._then, "nothing has to be measured again on the same split"
        self.asked.append((str(bundle), dataset_md5))
        self._then()
        return Path("again")


never = Data()


def test_both_decisions_are_written_down(evidence, tmp_path):
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    for number, expected in ((1, True), (2, True), (3, False)):
        assert promote(TASK, version(number), shelf, ledger, never).promote is expected
    assert shelf.aliases == {CHAMPION: 2, PREVIOUS: 1}
    assert events(ledger) == [("promoting", 1), ("promoted", 1), ("promoting", 2), ("promoted", 2), ("refused", 3)]


@pytest.fixture
def readable(monkeypatch):
    monkeypatch.setattr("derm_ml.promotion.Bundle.open", lambda path: None)


@pytest.mark.parametrize("crash_after", [0, 1, 2])
@pytest.mark.parametrize("then", ["the same again", "another model", "rollback"])
def test_whatever_is_called_after_a_crash_finds_the_aliases_of_one_decision(
    evidence, readable, tmp_path, monkeypatch, crash_after, then
):
    """Else champion and previous are one version, and the champion before is out of reach when it is needed."""
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    evidence["bundle4"] = replace(GOOD, value=0.95)
    for number in (1, 2):
        promote(TASK, version(number), shelf, ledger, never)
    shelf.moves_left = crash_after
    written = ledger.append
    if crash_after == 2:  # both aliases have moved, the fact is not written

        def dies_at_the_fact(entry):
            if entry["event"] == "promoted":
                raise KeyboardInterrupt
            return written(entry)

        monkeypatch.setattr(ledger, "append", dies_at_the_fact)
    with pytest.raises(KeyboardInterrupt):
        promote(TASK, version(4), shelf, ledger, never)
    shelf.moves_left = 99
    monkeypatch.setattr(ledger, "append", written)
    took_effect = crash_after > 0
    if then == "the same again":
        assert promote(TASK, version(4), shelf, ledger, never).promote
        assert shelf.aliases == {CHAMPION: 4, PREVIOUS: 2}
    elif then == "another model":
        assert not promote(TASK, version(3), shelf, ledger, never).promote
        assert shelf.aliases == ({CHAMPION: 4, PREVIOUS: 2} if took_effect else {CHAMPION: 2, PREVIOUS: 1})
    else:
        rollback(TASK, shelf, ledger)
        assert shelf.aliases == ({CHAMPION: 2, PREVIOUS: 4} if took_effect else {CHAMPION: 1, PREVIOUS: 2})
    assert events(ledger).count(("promoted", 4)) == (took_effect or then == "the same again")


def test_a_crash_after_the_alias_moved_is_completed_in_the_ledger(evidence, tmp_path):
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    shelf.aliases = {CHAMPION: 1}
    ledger.append({"event": "promoting", "task": TASK.name, "version": 1, "champion_before": None})
    assert promote(TASK, version(1), shelf, ledger, never).promote
    assert promote(TASK, version(1), shelf, ledger, never).promote
    assert events(ledger) == [("promoting", 1), ("promoted", 1)]


def test_a_champion_of_another_split_is_measured_again_on_the_candidates(evidence, tmp_path):
    """Two numbers from different images say nothing about which model is better."""
    evidence["bundle1"] = replace(GOOD, value=0.99, split_hash="old")
    data = Data(then=lambda: evidence.update(bundle1=replace(GOOD, value=0.75)))
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    shelf.aliases = {CHAMPION: 1}
    assert promote(TASK, version(2), shelf, ledger, data).promote
    assert data.asked == [("bundle1", GOOD.dataset_md5)]


def test_a_champion_measured_on_other_labels_of_the_same_images_is_measured_again(evidence, tmp_path):
    """A corrected label leaves every id as it was: by ids alone the two would seem to have seen the same cases."""
    evidence["bundle1"] = replace(GOOD, value=0.75, dataset_md5="before the correction")
    data = Data(then=lambda: evidence.update(bundle1=replace(GOOD, value=0.95)))
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    shelf.aliases = {CHAMPION: 1}
    assert not promote(TASK, version(2), shelf, ledger, data).promote
    assert data.asked == [("bundle1", GOOD.dataset_md5)]


def test_a_comparison_that_cannot_be_made_is_a_refusal_in_the_ledger(evidence, tmp_path, monkeypatch):
    evidence["bundle1"] = replace(GOOD, value=0.75)
    monkeypatch.setattr("derm_ml.promotion.Policy.of", lambda task: Policy(floor=0.6, worse_by=0.02))

    def refuse(*_):
        raise ComparisonError("measured against other labels")

    monkeypatch.setattr("derm_ml.promotion._paired", refuse)
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    shelf.aliases = {CHAMPION: 1}
    decision = promote(TASK, version(2), shelf, ledger, never)
    assert not decision.promote
    assert "measured against other labels" in decision.reasons[0]
    assert events(ledger) == [("refused", 2)]


def test_without_a_previous_champion_there_is_no_rollback(tmp_path):
    with pytest.raises(PromotionError, match="no previous champion"):
        rollback(TASK, Shelf(), Ledger(tmp_path / "ledger.jsonl"))


@pytest.mark.parametrize("crash_after", [0, 1])
def test_a_rollback_cut_short_is_finished_and_not_undone_by_the_next_call(evidence, readable, tmp_path, crash_after):
    """Somebody rolls back because the champion is harmful: trying again after a crash must not bring it back."""
    shelf, ledger = Shelf(), Ledger(tmp_path / "ledger.jsonl")
    for number in (1, 2):
        promote(TASK, version(number), shelf, ledger, never)
    shelf.moves_left = crash_after
    with pytest.raises(KeyboardInterrupt):
        rollback(TASK, shelf, ledger)
    shelf.moves_left = 99
    assert "version 1 is the champion" in rollback(TASK, shelf, ledger)
    assert shelf.aliases == {CHAMPION: 1, PREVIOUS: 2}
    assert events(ledger)[-2:] == [("rolling_back", 1), ("rolled_back", 1)]


def test_a_torn_line_of_the_ledger_does_not_swallow_the_next(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"event": "refused", "version": 1})
    with ledger.path.open("a") as file:
        file.write('{"event": "prom')
    ledger.append({"event": "refused", "version": 2})
    assert events(ledger) == [("refused", 1), ("refused", 2)]


def test_two_processes_do_not_write_at_once(tmp_path):
    """Two promotions at the same time: the second sees what the first decided."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(tmp_path / "ledger.jsonl", n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    written = [entry["n"] for entry in Ledger(tmp_path / "ledger.jsonl").entries()]
    assert sorted(written) == [0] * 20 + [1] * 20
    assert sum(a != b for a, b in pairwise(written)) == 1  # one after the other, not mixed


def _write_many(path: Path, number: int) -> None:
    ledger = Ledger(path)
    with ledger.locked():
        for _ in range(20):
            ledger.append({"n": number})
