"""Kept predictions are read by everybody: a file of something else, or half a file, would be wrong everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from derm_ml.machine import WriteError
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.kept import About, PredictionsError, kept_table, read_kept, write_kept

ABOUT = About("classifier", "0123456789ab", "d" * 32 + ".dir", "test", "0" * 16)
IDS = [f"case {i}" for i in range(40)]
TABLE = pa.table({"id": IDS, "value": np.random.default_rng(0).random(40)})


@pytest.fixture
def path(tmp_path) -> Path:
    return ABOUT.path(ModelFolder(tmp_path))


def never() -> pa.Table:
    raise AssertionError("predicted again")


def test_a_table_is_made_once_and_read_by_everybody_after(tmp_path, path):
    assert kept_table(ModelFolder(tmp_path), ABOUT, IDS, lambda: TABLE) == TABLE
    assert path.is_file()
    assert kept_table(ModelFolder(tmp_path), ABOUT, IDS, never).equals(TABLE)
    assert kept_table(None, ABOUT, IDS, lambda: TABLE.slice(0, 3)).num_rows == 3, "no folder: nothing kept is believed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "segmenter"),
        ("model_version", "another"),
        ("dataset_md5", "d" * 12 + "e" * 20 + ".dir"),  # the folder's name holds the first digits only
        ("split_hash", "1" * 16),
    ],
)
def test_a_file_of_something_else_is_named_and_made_again(tmp_path, path, caplog, field, value):
    other = replace(ABOUT, **{field: value})
    write_kept(path, other, TABLE)
    made = TABLE.set_column(1, "value", pa.array(np.zeros(40)))
    assert kept_table(ModelFolder(tmp_path), ABOUT, IDS, lambda: made).equals(made)
    assert f"{path} is of {field} {value}, not of {getattr(ABOUT, field)}; predicting again" in caplog.text
    assert kept_table(ModelFolder(tmp_path), ABOUT, IDS, never).equals(made)


def test_other_cases_or_another_order_are_not_taken_for_these(path):
    write_kept(path, ABOUT, TABLE)
    for ids in (IDS[:-1], IDS[::-1], [*IDS[:-1], "another"]):
        with pytest.raises(PredictionsError, match="does not hold the cases of the split in their order"):
            read_kept(path, ABOUT, ids)


def test_a_table_that_contradicts_itself_is_made_again(tmp_path, path, caplog):
    def check(table: pa.Table) -> None:
        if table["value"][0].as_py() > 1:
            raise ValueError("case 0 has more than 1")

    write_kept(path, ABOUT, TABLE.set_column(1, "value", pa.array(np.full(40, 2.0))))
    assert kept_table(ModelFolder(tmp_path), ABOUT, IDS, lambda: TABLE, check) == TABLE
    assert f"{path} contradicts itself: case 0 has more than 1" in caplog.text


def test_every_flipped_byte_and_every_cut_is_seen_or_does_no_harm(path):
    """A disk that lies would otherwise change a probability, and nobody would know."""
    write_kept(path, ABOUT, TABLE)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = [whole[:size] for size in (0, 3, len(whole) // 2, len(whole) - 1)]
    for place in rng.integers(4, len(whole), 150):
        damaged.append(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
    found = [_read_or_refused(path, data) for data in damaged]
    assert all(table is None or table.equals(TABLE) for table in found)
    assert sum(table is None for table in found) > 50


def _read_or_refused(path: Path, data: bytes) -> pa.Table | None:
    path.write_bytes(data)
    try:
        return read_kept(path, ABOUT, IDS)
    except PredictionsError:
        return None


SLOW = """
import sys, time
from pathlib import Path
import pyarrow as pa
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.kept import About, kept_table
folder, about = ModelFolder(Path(sys.argv[1])), About("classifier", "0123456789ab", "d" * 32 + ".dir", "test", "0" * 16)

def make():
    print("predicting", flush=True)
    time.sleep(float(sys.argv[2]))
    return pa.table({"id": ["a"], "value": [1.0]})

print(kept_table(folder, about, ["a"], make)["value"].to_pylist(), flush=True)
"""


def process(folder: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


@pytest.mark.slow
def test_of_two_processes_one_predicts_and_both_read(tmp_path):
    """Dagster makes evaluation, heatmaps and embeddings at the same time."""
    running = [process(tmp_path, 1.0) for _ in range(3)]
    said = [p.communicate(timeout=60)[0].split() for p in running]
    assert sum("predicting" in words for words in said) == 1
    assert all(words[-1] == "[1.0]" for words in said)


@pytest.mark.slow
def test_a_killed_pass_leaves_nothing_that_is_read_and_keeps_nobody_waiting(tmp_path):
    killed = process(tmp_path, 600)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "predicting\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert process(tmp_path, 0).communicate(timeout=60)[0] == "predicting\n[1.0]\n"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "predictions").write_text("a file of the user's")
    with pytest.raises(WriteError, match="predictions"):
        kept_table(ModelFolder(tmp_path), ABOUT, IDS, lambda: TABLE)
