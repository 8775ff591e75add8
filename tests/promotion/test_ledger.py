"""The promotion ledger: what was decided stays decided, and whoever changes the file is noticed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.promotion.ledger import Ledger, LedgerError, standing


class Tag:
    value: str | None = None

    def read(self) -> str | None:
        return self.value

    def write(self, heads: str) -> None:
        self.value = heads


def filled(path: Path, n: int = 6) -> Ledger:
    path.unlink(missing_ok=True)
    ledger = Ledger(path, Tag())
    with ledger.locked():
        for number in range(n):
            ledger.append({"event": "promoted", "task": "t", "version": number, "reasons": ["better", "ä"]})
    return ledger


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> tuple[Ledger, list[str]]:
    ledger = filled(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    return ledger, ledger.path.read_text().splitlines()


def test_an_entry_says_who_when_and_with_which_code(full):
    entry = full[0].entries()[0]
    assert "@" in entry["by"]
    assert entry["at"].endswith("+00:00")
    assert entry["code"]


@settings(max_examples=60)
@given(st.data())
def test_any_single_edit_of_any_line_is_noticed(full, data):
    """One character changed, removed or added anywhere: even in the last line, even where JSON does not mind."""
    ledger, lines = full
    row = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[row]) - 1))
    how = data.draw(st.sampled_from(["change", "remove", "add"]))
    character = data.draw(st.characters(codec="ascii", exclude_characters="\n\r"))
    line = lines[row]
    edited = {
        "change": line[:place] + character + line[place + 1 :],
        "remove": line[:place] + line[place + 1 :],
        "add": line[:place] + character + line[place:],
    }[how]
    if edited == line:
        return
    ledger.path.write_text("\n".join([*lines[:row], edited, *lines[row + 1 :]]) + "\n")
    with pytest.raises(LedgerError):
        ledger.entries()


@settings(max_examples=40)
@given(st.data())
def test_lines_removed_moved_or_doubled_are_noticed(full, data):
    ledger, lines = full
    order = data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=8))
    if order == list(range(len(lines))):
        return
    ledger.path.write_text("".join(lines[k] + "\n" for k in order))
    with pytest.raises(LedgerError):
        ledger.entries()


def chained_to(lines: list[str], **entry: object) -> str:
    """A line as a forger writes it who knows how the chain is made."""
    return json.dumps({**entry, "previous": hashlib.sha256(lines[-1].encode()).hexdigest()})


def test_an_entry_forged_with_a_right_hash_is_noticed(tmp_path):
    """The hash of the last line also lies in the registry: writing to the file alone is not enough."""
    ledger = filled(tmp_path / "ledger.jsonl")
    lines = ledger.path.read_text().splitlines()
    forged = chained_to(lines, at="2099-01-01T00:00:00.000+00:00", event="promoted", version=99)
    ledger.path.write_text("\n".join([*lines, forged]) + "\n")
    with pytest.raises(LedgerError, match="were removed, edited or added by hand"):
        ledger.entries()


def test_a_back_dated_entry_is_noticed(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    lines = ledger.path.read_text().splitlines()
    forged = chained_to(lines, at="2020-01-01T00:00:00.000+00:00", event="promoted", version=99)
    ledger.path.write_text("\n".join([*lines, forged]) + "\n")
    ledger.anchor.value = hashlib.sha256(forged.encode()).hexdigest()
    with pytest.raises(LedgerError, match="line 7 is dated 2020-01-01"):
        ledger.entries()


@pytest.mark.parametrize("left", [0, 3])
def test_lines_missing_at_the_end_or_all_of_them_are_noticed(tmp_path, left):
    ledger = filled(tmp_path / "ledger.jsonl")
    lines = ledger.path.read_text().splitlines()
    ledger.path.write_text("".join(line + "\n" for line in lines[:left]))
    with pytest.raises(LedgerError, match="is missing or empty" if not left else "ends with another entry"):
        ledger.entries()


def test_a_removed_file_is_noticed(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    ledger.path.unlink()
    with pytest.raises(LedgerError, match="is missing or empty"):
        ledger.entries()


def test_a_registry_that_knows_nothing_of_the_ledger_is_another_one(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    ledger.anchor.value = None
    with pytest.raises(LedgerError, match="it is another registry than the one the ledger was written with"):
        ledger.entries()


def test_a_line_without_a_hash_after_the_chain_began_is_noticed(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    with ledger.path.open("a") as file:
        file.write('{"at": "2099", "event": "promoted", "version": 7}\n')
    with pytest.raises(LedgerError, match="is not chained to the line before"):
        ledger.entries()


def test_a_torn_line_does_not_swallow_the_next(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl", 1)
    with ledger.path.open("a") as file:
        file.write('{"event": "prom')
    with ledger.locked():
        ledger.append({"event": "refused", "version": 2})
    assert [entry["version"] for entry in ledger.entries()] == [0, 2]


def test_nothing_is_appended_to_a_changed_ledger(tmp_path):
    """It would vouch for the forgery."""
    ledger = filled(tmp_path / "ledger.jsonl")
    ledger.path.write_text(ledger.path.read_text().replace("better", "best"))
    with ledger.locked(), pytest.raises(LedgerError):
        ledger.append({"event": "refused", "version": 9})


def test_two_processes_do_not_write_at_once(tmp_path):
    """Two promotions at the same time: the second sees what the first decided."""
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
            ledger.append({"event": "refused", "version": 1, "n": number})


def test_who_was_champion_on_a_date():
    """The question after a misdiagnosis: which model answered on that day?"""

    def entry(day: int, event: str, version: int | None, **more: object) -> dict[str, object]:
        return {"at": f"2026-03-{day:02d}T12:00:00.000+00:00", "event": event, "version": version, "by": "x@y", **more}

    gone = {"number": 2, "model_version": "m2", "network": ""}
    entries = [
        entry(1, "promoting", 1, evidence={"model_version": "m1"}), entry(1, "promoted", 1),
        entry(5, "promoting", 2, evidence={"model_version": "m2"}), entry(5, "promoted", 2), entry(6, "refused", 3),
        entry(9, "rolling_back", 1, withdrawn=gone), entry(9, "rolled_back", 1, withdrawn=gone, why="harm"),
    ]  # fmt: skip
    days = {day: standing(entries, f"2026-03-{day:02d}T23:59:59.999+00:00").champion for day in (1, 4, 5, 8, 9, 30)}
    assert days == {1: 1, 4: 1, 5: 2, 8: 2, 9: 1, 30: 1}
    assert standing(entries, "2026-02-28T23:59:59.999+00:00").champion is None
    now = standing(entries)
    assert (now.model_version, now.since[:10]) == ("m1", "2026-03-09")
    assert now.is_withdrawn("m2").why == "harm"
