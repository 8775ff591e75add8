"""What stands for a patient outside: nobody without the secret can go back to the number, or make the id himself."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.neutral_ids import NeutralIds, SecretError, installation_ids


def test_the_secret_is_made_once_and_is_its_owners_alone(tmp_path, monkeypatch):
    """A secret made twice would part a patient's old images from the new ones."""
    monkeypatch.delenv("DERM_SECRET", raising=False)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: installation_ids(tmp_path).of("patient", "17"), range(32)))
    assert len(made) == 1
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_another_installation_has_other_ids_unless_they_share_the_secret(tmp_path, monkeypatch):
    monkeypatch.delenv("DERM_SECRET", raising=False)
    here, there = installation_ids(tmp_path / "a"), installation_ids(tmp_path / "b")
    assert here.of("patient", "17") != there.of("patient", "17")
    assert here.key_id != there.key_id
    monkeypatch.setenv("DERM_SECRET", "s" * 32)
    assert installation_ids(tmp_path / "a") == installation_ids(tmp_path / "b")
    assert "s" * 32 not in repr(installation_ids(tmp_path / "a"))


def test_a_short_secret_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DERM_SECRET", "hunter2")
    with pytest.raises(SecretError, match="DERM_SECRET: a secret needs at least 32 characters, this one has 7"):
        installation_ids(tmp_path)


@given(st.text(), st.text(), st.text())
def test_ids_tell_kinds_and_values_apart(kind, one, other):
    ids = NeutralIds(b"k" * 32)
    assert len(ids.of(kind, one)) == 32
    assert (ids.of(kind, one) == ids.of(kind, other)) == (one == other)
