"""The shared place in the stores that clouds have: what the ledger relies on, asked of servers of their protocols.

Each server is skipped where it, or the library for it, is not installed (tests/derm_assets/conftest.py).
"""

from __future__ import annotations

import secrets
import sys
import threading
from pathlib import Path

import pytest

from derm_assets.resources.data_store import DataStore, DataStoreError
from derm_ml.promotion.ledger_lines import LedgerError
from derm_ml.promotion.shared_lines import SharedLines
from derm_ml.registry import get_task
from derm_ml.shared import SharedPlace, SharedPlaceError
from tests.derm_assets.conftest import ended, free_port, listening

TASK = get_task("lesion_classification")
RACING = 8


@pytest.fixture(params=["s3", "gs", "az"])
def place(request, monkeypatch) -> SharedPlace:
    """A part of the bucket that nobody has written into."""
    found = request.getfixturevalue({"s3": "objects", "gs": "google", "az": "azure"}[request.param])
    for name, value in found.items():
        monkeypatch.setenv("AWS_ENDPOINT_URL" if name == "MLFLOW_S3_ENDPOINT_URL" else name, value)
    return SharedPlace(f"{request.param}://derm/{secrets.token_hex(4)}")


@pytest.mark.slow
def test_of_many_machines_that_write_the_same_entry_one_succeeds(place):
    """Two machines that promote at once: the entry of one would replace the other's, and nobody would know."""
    place.require_written_once()
    won: list[bytes] = []

    def write(own: bytes) -> None:
        if SharedPlace(place.address).create("ledger/1", own):
            won.append(own)

    racing = [threading.Thread(target=write, args=(str(number).encode(),)) for number in range(RACING)]
    for one in racing:
        one.start()
    for one in racing:
        one.join()
    assert [place.read("ledger/1")] == won
    assert place.names("ledger") == ["1"]


@pytest.mark.slow
def test_a_ledger_there_is_read_whole_and_an_entry_is_never_replaced(place):
    lines = SharedLines(place, TASK.name)
    for number, line in enumerate(("first", "second")):
        with lines.locked():
            lines.add(line, after=number)
    with lines.locked(), pytest.raises(LedgerError, match="another process wrote entry 2 meanwhile"):
        SharedLines(place, TASK.name).add("another", after=1)
    assert lines.read() == ["first", "second"]
    assert len(place.names(f"ledger/{TASK.name}/lock")) == 1


@pytest.mark.slow
def test_files_sent_there_come_back_whole(place, tmp_path):
    (tmp_path / "model" / "bundle").mkdir(parents=True)
    (tmp_path / "model" / "bundle" / "network.onnx").write_bytes(secrets.token_bytes(6_000_000))  # in several parts
    contents = place.send(tmp_path / "model", ["bundle"])
    place.fetch(contents, tmp_path / "other")
    found = tmp_path / "other" / "bundle" / "network.onnx"
    assert found.read_bytes() == (tmp_path / "model" / "bundle" / "network.onnx").read_bytes()
    place.note(f"objects/{place.names('objects')[0]}", b"noise")
    with pytest.raises(SharedPlaceError, match=r"the file bundle/network\.onnx, is damaged"):
        place.fetch(contents, tmp_path / "third")


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_sentence(place):
    missing = SharedPlace(place.address.replace("//derm", "//nowhere"))
    with pytest.raises(SharedPlaceError, match="names a place that exists, with keys that may read and write it"):
        missing.create("name", b"")


@pytest.mark.slow
def test_a_store_that_forgets_the_condition_gets_no_ledger(monkeypatch, tmp_path):
    """As this server does, which takes Google's `ifGenerationMatch=0` and writes over what is there."""
    pytest.importorskip("gcsfs", reason="pip install 'derm-platform[gcs]'")
    pytest.importorskip("gcp_storage_emulator", reason="pip install gcp-storage-emulator")
    port, bucket = free_port(), "--default-bucket=derm"
    start = "import sys; from gcp_storage_emulator.__main__ import main; sys.exit(main())"
    own = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", bucket]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    with ended([sys.executable, "-c", start, *own], cwd=tmp_path) as server:
        listening(server, port)
        place = SharedPlace("gs://derm/careless")
        with (
            pytest.raises(SharedPlaceError, match="wrote over a file that was to be written once"),
            SharedLines(place, TASK.name).locked(),
        ):
            pass
        assert place.names() == ["written-once"], "something of a ledger was written"


@pytest.mark.parametrize(("scheme", "library", "extra"), [("gs", "dvc_gs", "gcs"), ("az", "dvc_azure", "azure")])
def test_a_remote_whose_library_is_missing_names_the_extra(places, monkeypatch, scheme, library, extra):
    monkeypatch.setattr("derm_assets.resources.data_store.find_spec", lambda name: None)
    Path(places.raw(TASK)).mkdir(parents=True)
    with pytest.raises(DataStoreError, match=rf"{library} is not installed: pip install 'derm-platform\[{extra}\]'"):
        DataStore(places=places, remote=f"{scheme}://derm/dvc").prepare(TASK)
