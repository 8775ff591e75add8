"""Who may ask: names, lengths, exchange without a restart, and the cost of guessing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import tokens
from serving.tokens import FREE, HELD, SLOWEST, Patience, TokenError, Tokens, read_tokens

CLINIC, LAB = "c" * 40, "l" * 32


def test_each_caller_has_a_name(tmp_path):
    """A log that says who asked is what an audit asks for; one shared token says nothing."""
    file = tmp_path / "tokens"
    file.write_text(f"# who may ask\nclinic {CLINIC}\n\nlab\t{LAB}\n")
    known = Tokens("d" * 32, file)
    assert [known.name_of(t.encode()) for t in (CLINIC, LAB, "d" * 32)] == ["clinic", "lab", "default"]
    assert known.name_of(b"x" * 40) == known.name_of(b"") == ""


def test_tokens_are_exchanged_without_a_restart_and_a_spoilt_file_locks_nobody_out(tmp_path, caplog):
    file = tmp_path / "tokens"
    file.write_text(f"clinic {CLINIC}\n")
    known = Tokens(file=file)
    (tmp_path / "new").write_text(f"lab {LAB}\n")
    (tmp_path / "new").replace(file)
    assert (known.name_of(CLINIC.encode()), known.name_of(LAB.encode())) == ("", "lab")
    (tmp_path / "new").write_text("lab short\n")
    (tmp_path / "new").replace(file)
    assert known.name_of(LAB.encode()) == "lab"
    assert "line 1" in caplog.text
    assert "short" not in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "no token"), ("clinic", "line 1: expected"), (f"a {CLINIC}\na {LAB}", "line 2: the name"),
     (f"ok {LAB}\nlab {'x' * 31}", "line 2: the token has fewer"), (f"a b {CLINIC}", "line 1: expected")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_where_and_repeats_no_token(tmp_path, content, said):
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(TokenError, match=said) as error:
        read_tokens(tmp_path / "tokens")
    assert CLINIC not in str(error.value)


def test_a_token_that_can_be_guessed_is_not_accepted():
    with pytest.raises(TokenError, match="has 31 characters"):
        Tokens("x" * 31)
    assert Tokens("x" * 32).name_of(b"x" * 32) == "default"


def test_guessing_becomes_slow_for_who_guesses_and_for_nobody_else():
    patience = Patience()
    delays = [patience.delay("203.0.113.9") for _ in range(20)]
    assert delays[:FREE] == [0.0] * FREE
    assert delays == sorted(delays)
    assert delays[-1] == SLOWEST
    assert patience.delay("203.0.113.10") == 0.0


def test_no_more_answers_are_held_back_than_the_service_can_carry(monkeypatch):
    """Otherwise whoever guesses from everywhere at once fills the memory with waiting requests."""

    async def go() -> None:
        patience, release = Patience(), asyncio.Event()
        monkeypatch.setattr(tokens.asyncio, "sleep", lambda _: release.wait())
        held = [asyncio.create_task(patience.hold(f"10.0.0.{n}")) for n in range(HELD)]
        await asyncio.wait(held, timeout=0)
        assert await patience.hold("10.0.1.1") is False
        release.set()
        assert all(await asyncio.gather(*held))

    asyncio.run(go())


@given(st.binary(max_size=80))
def test_no_other_bytes_are_a_token(given_):
    assert (Tokens(CLINIC).name_of(given_) == "default") == (given_ == CLINIC.encode())
