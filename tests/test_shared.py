"""A place that several machines reach: what comes back is what was sent, or one sentence that names what is wrong."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from derm_ml.places import SHARED
from derm_ml.shared import SharedPlace, SharedPlaceError, shared_place


@pytest.fixture
def place(tmp_path) -> SharedPlace:
    return SharedPlace(f"file://{tmp_path}/shared")


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "first" / "drawn-0"
    (folder / "bundle" / "graphs").mkdir(parents=True)
    (folder / "bundle" / "bundle.json").write_text('{"version": 1}')
    (folder / "bundle" / "graphs" / "network.onnx").write_bytes(bytes(range(256)) * 100)
    (folder / "history.json").write_text("[]")
    (folder / "checkpoint").write_text("stays here")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_machine_gets_the_files_that_were_sent_and_no_others(place, model, tmp_path):
    contents = place.send(model, ["bundle", "history.json", "provenance.json"])
    place.fetch(contents, other := tmp_path / "second" / "drawn-0")
    assert files(other) == {name: data for name, data in files(model).items() if name != "checkpoint"}
    assert place.send(other, ["history.json", "bundle"]) == contents, "the name depends on the machine"


def test_what_is_here_and_the_same_is_not_asked_for_again_and_what_is_older_is_replaced(place, model, tmp_path):
    first = place.send(model, ["bundle"])
    place.fetch(first, other := tmp_path / "second")
    (model / "bundle" / "bundle.json").write_text('{"version": 2}')
    (model / "bundle" / "graphs" / "network.onnx").rename(model / "bundle" / "other.onnx")
    second = place.send(model, ["bundle"])
    place.fetch(second, other)
    assert files(other / "bundle") == files(model / "bundle")
    for item in (tmp_path / "shared" / "objects").iterdir():
        item.unlink()
    place.fetch(second, other)  # from nowhere, for nothing is missing


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_corrupt_object_is_refused_and_named_and_nothing_here_changes(place, model, tmp_path, how):
    contents = place.send(model, ["bundle"])
    digest = hashlib.sha256(bytes(range(256)) * 100).hexdigest()
    found = tmp_path / "shared" / "objects" / digest
    old = tmp_path / "second" / "bundle" / "bundle.json"
    old.parent.mkdir(parents=True)
    old.write_text("an older model")
    found.unlink()
    if how == "damaged":
        found.write_bytes(bytes(range(255)))
    with pytest.raises(SharedPlaceError, match=rf"objects/{digest}, the file bundle/graphs/network.onnx, is {how}"):
        place.fetch(contents, tmp_path / "second")
    assert files(tmp_path / "second") == {"bundle/bundle.json": b"an older model"}
    place.remove(f"objects/{digest}")  # what the sentence says to do
    assert place.send(model, ["bundle"]) == contents
    place.fetch(contents, tmp_path / "second")
    assert files(tmp_path / "second" / "bundle") == files(model / "bundle")


def test_a_list_that_was_changed_is_refused(place, model, tmp_path):
    contents = place.send(model, ["bundle"])
    name = tmp_path / "shared" / "contents" / f"{contents}.json"
    name.write_text(name.read_text().replace("bundle.json", "bundlf.json"))
    with pytest.raises(SharedPlaceError, match=rf"contents/{contents}\.json is damaged"):
        place.fetch(contents, tmp_path / "second")
    with pytest.raises(SharedPlaceError, match="is missing"):
        place.fetch("0" * 64, tmp_path / "second")


@pytest.mark.parametrize("path", ["../escaped", "/etc/escaped", "bundle/../../escaped"])
def test_a_list_never_reaches_outside_its_folder(place, tmp_path, path):
    text = json.dumps({"schema_version": 1, "files": {path: "0" * 64}})
    contents = hashlib.sha256(text.encode()).hexdigest()
    place.create(f"contents/{contents}.json", text.encode())
    with pytest.raises(SharedPlaceError, match="lies outside its folder"):
        place.fetch(contents, tmp_path / "second")


def test_of_two_who_create_the_same_name_one_succeeds(place):
    assert place.create("ledger/1", b"first")
    assert not place.create("ledger/1", b"second")
    assert place.read("ledger/1") == b"first"
    assert place.names("ledger") == ["1"]
    assert (place.names("none"), place.read("none"), place.read_all(["none", "ledger/1"])) == ([], None, [b"first"])


class Careless(MemoryFileSystem):
    """A store whose library knows of no condition: what is there is written over."""

    protocol = "careless"

    def pipe_file(self, path, value, mode="overwrite", **more):
        super().pipe_file(path, value)


def test_a_store_that_writes_over_what_is_there_keeps_no_ledger():
    """Of two machines that promote at once one would lose its entry, and nobody would know."""
    fsspec.register_implementation("careless", Careless, clobber=True)
    with pytest.raises(SharedPlaceError, match="take a store that honours conditional writes"):
        SharedPlace("careless://derm").require_written_once()
    SharedPlace("memory://derm").require_written_once()


def test_the_setting_names_the_place(monkeypatch, tmp_path):
    monkeypatch.setenv(SHARED, " ")
    assert shared_place() is None
    monkeypatch.setenv(SHARED, f" {tmp_path}/ ")
    assert shared_place() == SharedPlace(str(tmp_path))


@pytest.mark.parametrize(
    ("address", "missing", "said"),
    [
        ("s3://derm/shared", "s3fs", r"library for s3 is not installed: pip install 'derm-platform\[s3\]'"),
        ("gs://derm/shared", "gcsfs", r"library for gs is not installed: pip install 'derm-platform\[gcs\]'"),
        ("az://derm/shared", "adlfs", r"library for az is not installed: pip install 'derm-platform\[azure\]'"),
        ("s4://derm/shared", "", "Protocol not known: s4"),
        ("/proc/nothing", "", "cannot be used"),
    ],
)
def test_a_place_that_cannot_be_had_is_one_sentence(monkeypatch, address, missing, said):
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
        # where another test has asked a store, fsspec knows its class already
        monkeypatch.delitem(_registry, address.partition(":")[0], raising=False)
    with pytest.raises(SharedPlaceError, match=said) as told:
        SharedPlace(address).create("name", b"")
    assert "\n" not in str(told.value)
