"""A silent trial with planted truth: what it says must follow from what the models answered, and from nothing else."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from derm_ml.answered.journal import CHALLENGER, Answered, Journal
from derm_ml.answered.table import records_below
from derm_ml.promotion.trial import CASES, SUMMARY, Trial, TrialError, read_labels, trial_of
from derm_ml.records import DataError
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # resamples

TASK = get_task("lesion_classification")
OLD, NEW = "0123456789ab", "ba9876543210"


def sha(number: int) -> str:
    return hashlib.sha256(f"image {number}".encode()).hexdigest()


class Clinic:
    """A service whose challenger sees more: the score of the true label rises by `gain` for the one, `known` for the
    other. `label` by number of the image."""

    def __init__(self, folder: Path, n: int, gain: float, known: float = 0.5) -> None:
        self.folder, rng, journal = folder, np.random.default_rng(7), Journal(folder, days=0)
        self.label = {k: TASK.labels[k % 3] for k in range(n)}
        for k in range(n):
            for version, role, sees in ((OLD, "served", known), (NEW, CHALLENGER, known + gain)):
                logits = rng.normal(size=3) + sees * np.eye(3)[k % 3]
                p = np.exp(logits) / np.exp(logits).sum()
                self.answer(journal, k, version, role, dict(zip(TASK.labels, map(float, p), strict=True)))
        self.journal = journal

    def answer(
        self, journal: Journal, k: int, version: str, role: str, scores: dict[str, float], again: str = ""
    ) -> None:
        journal.append(
            Answered(f"{again}{k:030x}", TASK.name, version, "d" * 32, f"{TASK.name}:x", (sha(k),), scores, role=role,
                     at=f"2026-03-{1 + k % 28:02}T10:00:00.000+00:00")
        )  # fmt: skip

    def records(self) -> pd.DataFrame:
        return records_below(self.folder)

    def list(self, rows: list[dict[str, str]]) -> Path:
        path = self.folder.parent / "labels.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def judged(self) -> Trial:
        rows = [{"image": sha(k), "label": label, "patient": f"P {k // 2}"} for k, label in self.label.items()]
        return trial_of(TASK, self.records(), read_labels(self.list(rows), TASK))


def test_a_better_challenger_is_found_and_one_that_is_alike_is_not(tmp_path):
    better = Clinic(tmp_path / "a" / "records", 180, 2.0).judged()
    assert better.difference.low > 0
    assert (better.champion, better.challenger, better.patients, len(better.cases)) == (OLD, NEW, 90, 180)
    assert f"on the same 180 images of 90 patients, paired 95 % interval {better.difference.low:+.3f} to" in str(better)
    alike = Clinic(tmp_path / "b" / "records", 180, 0.0).judged()
    assert alike.difference.low < 0 < alike.difference.high


def test_only_what_both_answered_and_a_label_is_known_of_is_compared_once(tmp_path):
    clinic = Clinic(tmp_path / "records", 60, 1.0)
    clinic.answer(clinic.journal, 100, OLD, "served", {"melanoma": 0.2, "nevus": 0.5, "seborrheic_keratosis": 0.3})
    for version, role in ((OLD, "served"), (NEW, CHALLENGER)):
        clinic.answer(clinic.journal, 101, version, role, {} if role == CHALLENGER else {"melanoma": 1.0})
        scores = {"melanoma": 0.9, "nevus": 0.05, "seborrheic_keratosis": 0.05}
        clinic.answer(clinic.journal, 0, version, role, scores, again="ff")  # sent once more
    clinic.label |= {100: "nevus", 101: "nevus"}
    del clinic.label[59]
    trial = clinic.judged()
    assert trial.counts == {"both": 62, "unlabelled": 1, "abstained": 1, "again": 1, "compared": 59}


def test_labels_are_found_by_prediction_by_hash_and_by_file(tmp_path):
    clinic = Clinic(tmp_path / "records", 30, 1.0)
    (tmp_path / "photo.jpg").write_bytes(b"image 2")
    rows = [{"prediction_id": f"{0:030x}", "image": "", "label": "melanoma"}]
    rows += [{"prediction_id": "", "image": sha(1).upper(), "label": "nevus"}]
    rows += [{"prediction_id": "", "image": "photo.jpg", "label": "seborrheic_keratosis"}]
    trial = trial_of(TASK, clinic.records(), read_labels(clinic.list(rows), TASK))
    assert trial.counts["compared"] == 3
    kept = json.dumps(trial.cases.to_dict("records")) + str(trial.cases.columns)
    assert not [word for word in (sha(0), f"{0:030x}", "photo") if word in kept]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "gone.jpg", "label": "nevus"}, "labels.csv:2: there is no file"),
        ({"image": "a" * 64, "label": "nevvus"}, "did you mean 'nevus'"),
        ({"image": "", "label": "nevus"}, "labels.csv:2: it names no answer"),
    ],
)
def test_a_wrong_list_is_one_sentence_with_its_line(tmp_path, row, said):
    clinic = Clinic(tmp_path / "records", 1, 1.0)
    with pytest.raises(DataError) as refused:
        read_labels(clinic.list([row]), TASK)
    assert said in str(refused.value)


def test_without_anything_to_compare_it_says_what_is_missing(tmp_path):
    clinic = Clinic(tmp_path / "records", 6, 1.0)
    with pytest.raises(TrialError, match="none of the 6 images that both models answered has a label in the list"):
        trial_of(TASK, clinic.records(), [])
    served_alone = clinic.records().query("role == 'served'")
    with pytest.raises(TrialError, match="no answer of a challenger"):
        trial_of(TASK, served_alone, [])
    with pytest.raises(TrialError, match="are no probabilities of labels"):
        trial_of(get_task("lesion_segmentation"), clinic.records(), [])


def test_what_is_kept_is_counted_again_and_an_edit_is_refused(tmp_path):
    trial = Clinic(tmp_path / "records", 90, 1.0).judged()
    folder = trial.write(tmp_path / "trial")
    again = Trial.read(folder)
    assert (again.difference, again.of_champion, str(again)) == (trial.difference, trial.of_champion, str(trial))
    stored = json.loads((folder / SUMMARY).read_text())
    (folder / SUMMARY).write_text(json.dumps({**stored, "difference": {**stored["difference"], "low": 0.2}}))
    with pytest.raises(TrialError, match="says another difference than its cases"):
        Trial.read(folder)
    (folder / SUMMARY).write_text(json.dumps(stored))
    cases = trial.cases.assign(**{"champion.melanoma": 0.5})
    cases.to_parquet(folder / CASES, index=False)
    with pytest.raises(TrialError, match="its sha256 is not the one in"):
        Trial.read(folder)
    (folder / CASES).unlink()
    with pytest.raises(TrialError, match="is missing: run `derm trial`"):
        Trial.read(folder)
