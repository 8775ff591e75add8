"""The official scorer: a submission joined wrongly would be scored on other people's pictures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from derm_ml.evaluation.isic import LABELS, read_submission, score_submission, write_submission
from derm_ml.records import DataError


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"ISIC_{i:07d}" for i in range(60)]
    classes = rng.permutation(np.repeat([0, 1, 2], 20))
    truth = pd.DataFrame({"image_id": ids, **{label: (classes == k) * 1.0 for k, label in enumerate(LABELS)}})
    truth.to_csv(tmp_path / "truth.csv", index=False)
    scores = rng.random((60, 2)) * 0.5 + 0.3 * truth[list(LABELS)].to_numpy()
    return tmp_path, ids, truth, scores


@pytest.mark.parametrize("form", ["challenge", "tasks"])
def test_score_is_that_of_scikit_learn_whatever_the_order_and_the_form(files, form):
    folder, ids, truth, scores = files
    order = np.random.default_rng(1).permutation(60)
    write_submission(folder / "s.csv", np.array(ids)[order].tolist(), scores[order, 0], scores[order, 1], form)
    header = (folder / "s.csv").read_text().splitlines()[0]
    assert header == {"challenge": "image_id,melanoma,seborrheic_keratosis", "tasks": "Id,task_1,task_2"}[form]
    found = score_submission(folder / "s.csv", folder / "truth.csv")
    expected = [roc_auc_score(truth[label], scores[:, k]) for k, label in enumerate(LABELS)]
    assert found["auc_melanoma"].value == pytest.approx(expected[0])
    assert found["auc_seborrheic_keratosis"].value == pytest.approx(expected[1])
    assert found["auc_mean"].value == pytest.approx(np.mean(expected))
    assert found["auc_mean"].n == 60


def test_ids_given_as_paths_are_the_ids_of_their_pictures(tmp_path):
    (tmp_path / "s.csv").write_text("Id,task_1,task_2\ndata/test/nevus/ISIC_0000001.jpg,0.1,0.2\n")
    assert read_submission(tmp_path / "s.csv")["image_id"].tolist() == ["ISIC_0000001"]


def test_missing_and_unknown_ids_are_named(files):
    folder, ids, _, scores = files
    write_submission(folder / "s.csv", ids[1:], scores[1:, 0], scores[1:, 1])
    with pytest.raises(DataError, match=r"s\.csv: 1 ids of .*truth\.csv are missing, e\.g\. ISIC_0000000"):
        score_submission(folder / "s.csv", folder / "truth.csv")
    write_submission(folder / "s.csv", [*ids, "other"], np.r_[scores[:, 0], 0.5], np.r_[scores[:, 1], 0.5])
    with pytest.raises(DataError, match=r"truth\.csv: 1 ids of .*s\.csv are missing, e\.g\. other"):
        score_submission(folder / "s.csv", folder / "truth.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image_id,melanoma\na,0.1\n", "line 1: columns are image_id,melanoma, expected"),
        ("Id,task_1,task_2\na,0.1,0.2\nx/a.jpg,0.3,0.2\n", "line 3: the id a was given before"),
        ("Id,task_1,task_2\na,0.1,0.2\nb,1.5,0.2\n", "line 3: melanoma is '1.5'"),
        ("Id,task_1,task_2\na,0.1,\n", "line 2: seborrheic_keratosis is ''"),
        ("Id,task_1,task_2\na,0.1,nan\n", "line 2: seborrheic_keratosis is 'nan'"),
        ("", "not a readable CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, says):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=says.replace("(", r"\(")):
        read_submission(tmp_path / "s.csv")


def test_a_byte_order_mark_and_another_encoding(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"\xef\xbb\xbfId,task_1,task_2\r\na,0.1,0.2\r\n")
    assert len(read_submission(tmp_path / "s.csv")) == 1
    (tmp_path / "s.csv").write_bytes("Id,task_1,task_2\nä,0.1,0.2\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_submission(tmp_path / "s.csv")
    with pytest.raises(DataError, match="no such file"):
        read_submission(tmp_path / "none.csv")


def test_nothing_is_written_that_would_not_be_read(tmp_path):
    with pytest.raises(DataError, match="given before"):
        write_submission(tmp_path / "s.csv", ["a", "a"], np.array([0.1, 0.2]), np.array([0.1, 0.2]))
    with pytest.raises(DataError, match="expected a number from 0 to 1"):
        write_submission(tmp_path / "s.csv", ["a"], np.array([np.nan]), np.array([0.1]))
    assert not list(tmp_path.iterdir())


def test_the_command_in_its_docstring_works(files):
    folder, ids, _, scores = files
    write_submission(folder / "s.csv", ids, scores[:, 0], scores[:, 1])
    command = [sys.executable, "-m", "derm_ml.evaluation.isic", str(folder / "s.csv"), str(folder / "truth.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "auc_melanoma",
        "auc_seborrheic_keratosis",
        "auc_mean",
    ]
