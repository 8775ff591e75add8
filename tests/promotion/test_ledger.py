"""The promotion ledger: what was decided stays decided, and whoever changes the file is noticed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from derm_ml.cli import app
from derm_ml.places import SHARED, installation
from derm_ml.promotion import shared_lines
from derm_ml.promotion.ledger import Ledger, LedgerError, standing
from derm_ml.promotion.shared_lines import SharedLines
from derm_ml.shared import SharedPlace


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
    return ledger, ledger.lines.path.read_text().splitlines()


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
    ledger.lines.path.write_text("\n".join([*lines[:row], edited, *lines[row + 1 :]]) + "\n")
    with pytest.raises(LedgerError):
        ledger.entries()


@settings(max_examples=40)
@given(st.data())
def test_lines_removed_moved_or_doubled_are_noticed(full, data):
    ledger, lines = full
    order = data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=8))
    if order == list(range(len(lines))):
        return
    ledger.lines.path.write_text("".join(lines[k] + "\n" for k in order))
    with pytest.raises(LedgerError):
        ledger.entries()


def chained_to(lines: list[str], **entry: object) -> str:
    """A line as a forger writes it who knows how the chain is made."""
    return json.dumps({**entry, "previous": hashlib.sha256(lines[-1].encode()).hexdigest()})


def test_an_entry_forged_with_a_right_hash_is_noticed(tmp_path):
    """The hash of the last line also lies in the registry: writing to the file alone is not enough."""
    ledger = filled(tmp_path / "ledger.jsonl")
    lines = ledger.lines.path.read_text().splitlines()
    forged = chained_to(lines, at="2099-01-01T00:00:00.000+00:00", event="promoted", version=99)
    ledger.lines.path.write_text("\n".join([*lines, forged]) + "\n")
    with pytest.raises(LedgerError, match="were removed, edited or added by hand"):
        ledger.entries()


def test_a_back_dated_entry_is_noticed(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    lines = ledger.lines.path.read_text().splitlines()
    forged = chained_to(lines, at="2020-01-01T00:00:00.000+00:00", event="promoted", version=99)
    ledger.lines.path.write_text("\n".join([*lines, forged]) + "\n")
    ledger.anchor.value = hashlib.sha256(forged.encode()).hexdigest()
    with pytest.raises(LedgerError, match="line 7 is dated 2020-01-01"):
        ledger.entries()


@pytest.mark.parametrize("left", [0, 3])
def test_lines_missing_at_the_end_or_all_of_them_are_noticed(tmp_path, left):
    ledger = filled(tmp_path / "ledger.jsonl")
    lines = ledger.lines.path.read_text().splitlines()
    ledger.lines.path.write_text("".join(line + "\n" for line in lines[:left]))
    with pytest.raises(LedgerError, match="is missing or empty" if not left else "ends with another entry"):
        ledger.entries()


def test_a_removed_file_is_noticed(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    ledger.lines.path.unlink()
    with pytest.raises(LedgerError, match="is missing or empty"):
        ledger.entries()


def test_a_registry_that_knows_nothing_of_the_ledger_is_another_one(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    ledger.anchor.value = None
    with pytest.raises(LedgerError, match="it is another registry than the one the ledger was written with"):
        ledger.entries()


def test_a_line_without_a_hash_after_the_chain_began_is_noticed(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    with ledger.lines.path.open("a") as file:
        file.write('{"at": "2099", "event": "promoted", "version": 7}\n')
    with pytest.raises(LedgerError, match="is not chained to the line before"):
        ledger.entries()


def test_a_torn_line_does_not_swallow_the_next(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl", 1)
    with ledger.lines.path.open("a") as file:
        file.write('{"event": "prom')
    with ledger.locked():
        ledger.append({"event": "refused", "version": 2})
    assert [entry["version"] for entry in ledger.entries()] == [0, 2]


def test_nothing_is_appended_to_a_changed_ledger(tmp_path):
    """It would vouch for the forgery."""
    ledger = filled(tmp_path / "ledger.jsonl")
    ledger.lines.path.write_text(ledger.lines.path.read_text().replace("better", "best"))
    with ledger.locked(), pytest.raises(LedgerError):
        ledger.append({"event": "refused", "version": 9})


@pytest.fixture(params=["file", "shared"])
def opened(request, tmp_path):
    """A ledger by its place, opened again and again as several processes do."""

    def open_(anchor: Tag | None = None) -> Ledger:
        place = SharedPlace(str(tmp_path))
        return Ledger(SharedLines(place, "t") if request.param == "shared" else tmp_path / "t.jsonl", anchor)

    return open_


def test_two_processes_do_not_write_at_once(opened):
    """Two promotions at the same time: the second sees what the first decided."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(opened(), n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    written = [entry["n"] for entry in opened().entries()]
    assert sorted(written) == [0] * 20 + [1] * 20
    assert sum(a != b for a, b in pairwise(written)) == 1  # one after the other, not mixed


def _write_many(ledger: Ledger, number: int) -> None:
    with ledger.locked():
        for _ in range(20):
            ledger.append({"event": "refused", "version": 1, "n": number})


def _hold_until_killed(ledger: Ledger, holding) -> None:
    with ledger.locked():
        holding.set()
        signal.pause()


def test_a_lock_whose_holder_was_killed_is_free_again(opened, monkeypatch):
    """A machine that dies in a promotion must not stop all later ones."""
    monkeypatch.setattr(shared_lines, "LOST", 1.0)
    context = multiprocessing.get_context("fork")
    holding = context.Event()
    holder = context.Process(target=_hold_until_killed, args=(opened(), holding))
    holder.start()
    assert holding.wait(30)
    holder.kill()
    holder.join()
    with (ledger := opened()).locked():
        ledger.append({"event": "refused", "version": 1})
    assert len(opened().entries()) == 1


def test_a_lock_that_is_renewed_is_not_taken(tmp_path, monkeypatch):
    """A promotion may take longer than a lock lasts."""
    monkeypatch.setattr(shared_lines, "LOST", 0.6)
    monkeypatch.setattr(shared_lines, "RENEWED", 0.1)
    place, order = SharedPlace(str(tmp_path)), []

    def second() -> None:
        with Ledger(SharedLines(place, "t")).locked():
            order.append("second")

    with (ledger := Ledger(SharedLines(place, "t"))).locked():
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(1.5)  # more than twice as long as a lock that nobody renews
        ledger.append({"event": "refused", "version": 1})
        order.append("first")
    waiting.join(30)
    assert order == ["first", "second"]


def test_who_lost_the_lock_writes_and_moves_nothing(tmp_path, monkeypatch):
    """A machine that slept for a minute: another promotion may have been carried out meanwhile."""
    monkeypatch.setattr(shared_lines, "LOST", 0.3)
    place = SharedPlace(str(tmp_path))
    asleep, awake = Ledger(SharedLines(place, "t")), Ledger(SharedLines(place, "t"))
    with asleep.locked():  # renewed each ten seconds only
        with awake.locked():
            awake.append({"event": "refused", "version": 2})
        with pytest.raises(LedgerError, match="did not renew its lock"):
            asleep.require_lock()
        with pytest.raises(LedgerError, match="did not renew its lock"):
            asleep.append({"event": "refused", "version": 1})
    assert [entry["version"] for entry in awake.entries()] == [2]


def test_of_two_who_write_the_same_entry_one_is_refused(tmp_path):
    """Without any lock: the store itself takes each number once, so nothing is ever overwritten."""
    lines = SharedLines(SharedPlace(str(tmp_path)), "t")
    Ledger(lines).append({"event": "refused", "version": 1})
    lines.add('{"event": "first"}', 1)
    with pytest.raises(LedgerError, match="another process wrote entry 2 meanwhile"):
        lines.add('{"event": "second"}', 1)
    assert len(lines.read()) == 2


@pytest.mark.parametrize("how", ["edit", "remove", "remove the last", "add"])
def test_what_is_changed_in_a_shared_ledger_is_noticed_and_put_aside_by_a_repair(tmp_path, how):
    ledger = Ledger(SharedLines(SharedPlace(str(tmp_path)), "t"), Tag())
    with ledger.locked():
        for number in range(4):
            ledger.append({"event": "promoted", "version": number, "why": "better"})
    assert len(ledger.entries()) == 4
    lines = sorted((tmp_path / "ledger" / "t" / "lines").iterdir())
    if how == "edit":
        lines[1].write_text(lines[1].read_text().replace("better", "best"))
    elif how == "add":
        lines[-1].with_name("00000005.json").write_text(lines[-1].read_text())
    else:
        lines[-1 if how == "remove the last" else 1].unlink()
    with pytest.raises(LedgerError, match="/ledger/t"):
        ledger.entries()
    with ledger.locked():
        begun = ledger.restart({"event": "repaired", "version": None})
    assert [entry["event"] for entry in ledger.entries()] == ["repaired"]
    kept = list((tmp_path / "ledger" / "t" / begun["kept"]).iterdir())
    assert len(kept) == {"edit": 4, "add": 5}.get(how, 3)


def test_a_ledger_moves_into_the_shared_place_with_all_it_says(tmp_path, monkeypatch):
    """Else whoever adds a second machine loses who was withdrawn, and why."""
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(SHARED, str(tmp_path / "shared"))
    place, task = SharedPlace(str(tmp_path / "shared")), "lesion_classification"
    own = filled(installation().ledger(task))
    looks = Ledger(own.lines.beside("looks"))
    looks.append({"event": "looked", "name": "network"})
    SharedLines(place, task).add(own.lines.read()[0], 0)  # cut short the first time
    told = CliRunner().invoke(app, ["share-ledger", task])
    assert told.exit_code == 0, told.output
    assert "6 entries" in told.output
    moved = Ledger.of(installation(), task, own.anchor)
    assert moved.entries() == own.entries()
    assert Ledger(moved.lines.beside("looks")).entries() == looks.entries()
    with moved.locked():
        moved.append({"event": "refused", "version": 7})
    told = CliRunner().invoke(app, ["share-ledger", task])  # the file is the older one now
    assert "does not begin with: nothing was copied" in str(told.exception)
    assert len(moved.entries()) == 7


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
