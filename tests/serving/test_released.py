"""Which Bento is served, and what a person reads when that cannot be told."""

from __future__ import annotations

import pytest

from serving.launch import serve_environment
from serving.released import (
    NotReleased,
    read_release,
    release_file,
    released_before,
    withdraw_release,
    write_release,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DERM_HOME", str(tmp_path))
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    return tmp_path


def test_what_was_released_last_is_served():
    write_release("screening", "screening:one", {})
    write_release("screening", "screening:two", {})
    assert read_release("screening") == "screening:two"


def test_what_was_released_of_a_model_is_found_again_while_it_is_in_the_store(home):
    """A rollback releases it again; one that was deleted from the store cannot be."""
    for tag, model in (("screening:one", "m1"), ("screening:two", "m2"), ("screening:three", "m1")):
        write_release("screening", tag, {"model_version": model, "code": "c"})
    assert released_before("screening", model_version="m1") == ""
    for version in ("one", "three"):
        (home / "bentoml" / "bentos" / "screening" / version).mkdir(parents=True)
        (home / "bentoml" / "bentos" / "screening" / version / "bento.yaml").touch()
    assert released_before("screening", model_version="m1") == "screening:three"
    assert released_before("screening", model_version="m1", code="other") == ""
    withdraw_release("screening")
    with pytest.raises(NotReleased, match="was withdrawn with its model"):
        read_release("screening")
    assert released_before("screening", model_version="m1") == "screening:three"


def test_a_release_file_of_an_older_version_is_read():
    release_file("screening").parent.mkdir(parents=True)
    release_file("screening").write_text('{"task": "screening", "bento": "screening:one"}')
    assert read_release("screening") == "screening:one"
    assert released_before("screening") == ""


def test_nothing_released_yet_says_what_to_do():
    with pytest.raises(NotReleased, match="promote a model first"):
        read_release("screening")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"bento": 3}', '{"bento": "other:one"}', '{"bento": "../x"}']
)
def test_a_spoilt_release_file_is_not_guessed_at(content):
    """It would be handed to a command line."""
    release_file("screening").parent.mkdir(parents=True)
    release_file("screening").write_text(content)
    with pytest.raises(NotReleased, match="release the Bento again"):
        read_release("screening")


def test_two_servers_share_the_store_but_not_their_metrics(home):
    """A starting BentoML empties the metrics folder of its home: the other server's counters would be gone."""
    first, second = (serve_environment(home / name)["BENTOML_HOME"] for name in ("a", "b"))
    assert first != second
    for run in ("a", "b"):
        assert (home / run / "bentos").resolve() == home / "bentoml" / "bentos"
    serve_environment(home / "a")  # a second start finds its links
