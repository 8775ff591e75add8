"""Prediction records: what an auditor finds a year later of an answer, after crashes, full disks and clean-ups."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.answered.journal import Answered, Journal, files_of_records, remove_old
from derm_ml.answered.table import RecordsError, pack, read_journal, records_below

TASK = "lesion_classification"


def answered(number: int = 0, **said) -> Answered:
    facts = {
        "prediction_id": f"{number:032x}",
        "task": TASK,
        "model_version": "0123456789ab",
        "dataset_md5": "0" * 32 + ".dir",
        "bento": f"{TASK}:one",
        "images": ("f" * 64,),
        "scores": {"melanoma": 0.25},
        "embedding": np.array([0.5, -2.0], np.float32),
        "at": "2026-03-01T10:00:00.000+00:00",
    }
    return Answered(**{**facts, **said})


def test_what_is_written_is_read(tmp_path):
    journal = Journal(tmp_path / TASK)
    journal.append(answered(1))
    journal.append(answered(2, embedding=None, scores={"area": 0.5}, point="recall_0.95", predicted="malignant"))
    table = records_below(tmp_path)
    assert table["prediction_id"].tolist() == [f"{1:032x}", f"{2:032x}"]
    assert table["embedding"].tolist() == [[0.5, -2.0], None]
    assert table.loc[0, "score.melanoma"] == 0.25
    assert table.loc[1, ["point", "predicted", "score.area"]].tolist() == ["recall_0.95", "malignant", 0.5]


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), max_size=8), st.text(max_size=20))
def test_any_record_survives_the_line_it_is_written_as(numbers, word):
    """A line break in a name would make two records of one."""
    line = answered(embedding=np.array(numbers, np.float32), predicted=word).line()
    assert line.count(b"\n") == 1
    assert json.loads(line)["predicted"] == word


@pytest.mark.slow
def test_a_killed_service_loses_no_record_that_was_written(tmp_path):
    """kill -9 while records are written: everything a client could have had the answer of is there."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tests.answered.test_records import answered
        from derm_ml.answered.journal import Journal
        journal = Journal(Path(sys.argv[1]))
        for number in range(10**9):
            journal.append(answered(number))
            print(number, flush=True)
        """
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment, cwd=root
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(500)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait(20)
    last = max(int(line) for line in told if line.endswith("\n"))
    found = records_below(tmp_path)["prediction_id"].tolist()
    assert found[: last + 1] == [f"{number:032x}" for number in range(last + 1)]
    assert len(found) - (last + 1) <= 1
    assert [path.suffix for path in pack(tmp_path)] == [".parquet"]  # its lock went with it


def test_a_full_disk_harms_the_next_record_no_more_than_its_own(tmp_path, monkeypatch, caplog):
    """Half a line was written before the disk was full. Room is made, and the service goes on."""
    journal, write = Journal(tmp_path), os.write
    journal.append(answered(1))
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: write(file, data[:40]))
        with pytest.raises(OSError, match="No space left"):
            journal.append(answered(2))
    journal.append(answered(3))
    assert records_below(tmp_path)["prediction_id"].tolist() == [f"{1:032x}", f"{3:032x}"]
    assert "line 2 is torn" in caplog.text


def test_threads_do_not_mix_their_lines(tmp_path):
    journal = Journal(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: journal.append(answered(n)), range(200)))
    assert sorted(records_below(tmp_path)["prediction_id"]) == [f"{n:032x}" for n in range(200)]


def test_a_journal_that_is_written_to_is_left_alone(tmp_path):
    """`derm records` runs beside the service: what it took away would be written into nothing."""
    journal = Journal(tmp_path)
    journal.append(answered(1))
    assert pack(tmp_path) == []
    journal.append(answered(2))
    journal.close()
    (made,) = pack(tmp_path)
    assert [path.suffix for path in files_of_records(tmp_path)] == [".parquet"]
    assert len(pd.read_parquet(made)) == 2
    assert records_below(tmp_path)["score.melanoma"].tolist() == [0.25, 0.25]


def test_a_crash_between_table_and_journal_counts_nothing_twice(tmp_path):
    journal = Journal(tmp_path)
    journal.append(answered(1))
    journal.close()
    (path,) = files_of_records(tmp_path)
    line = path.read_bytes()
    pack(tmp_path)
    path.write_bytes(line)
    assert len(records_below(tmp_path)) == 1
    assert pack(tmp_path) == []
    assert not path.exists()


def test_a_new_day_begins_a_new_file_and_removes_what_is_too_old(tmp_path):
    """Kept longer than was promised is a breach; removed too early is lost evidence."""
    other = tmp_path / "2026-02-01-notes.txt"
    other.touch()
    journal = Journal(tmp_path, days=30)
    for day in ("2099-01-01", "2099-01-31", "2099-02-01"):
        journal.append(answered(at=f"{day}T10:00:00.000+00:00"))
        if day == "2099-01-31":
            assert len(files_of_records(tmp_path)) == 2  # the first lies just 30 days back
    assert [path.name[:10] for path in files_of_records(tmp_path)] == ["2099-01-31", "2099-02-01"]
    gone = remove_old(tmp_path, 30, date(2099, 3, 3))
    assert [path.name[:10] for path in gone] == ["2099-01-31"]
    assert remove_old(tmp_path, 0, date(2999, 1, 1)) == []
    assert other.exists()


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "2026-03-01-0a1b2c3d.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(RecordsError, match=r"2026-03-01-0a1b2c3d\.parquet is damaged"):
        records_below(tmp_path)


def test_where_nothing_was_recorded_there_is_an_empty_table(tmp_path):
    assert records_below(tmp_path / "absent").empty
    assert list(read_journal(Path(os.devnull))) == []
