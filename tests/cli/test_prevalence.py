"""Where a disease is rarer than in the training data: the same model, told so, and how rare it is from its answers."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from derm_ml.answered.journal import Answered, Journal
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation import report

pytestmark = pytest.mark.slow

TASK = "malignancy_screening"


def answers(n: int, share: float) -> np.ndarray:
    """(n,) probabilities calibrated at a prevalence of 0.3, of cases of which `share` are positive."""
    rng = np.random.default_rng(0)
    evidence = 1.5 * rng.normal(size=n) + np.where(rng.random(n) < share, 1.125, -1.125)
    return expit(evidence + logit(0.3))


def test_predict_corrects_in_every_form(derm, models, images):
    given = ("predict", TASK, images, "--model", models[TASK], "--prevalence", "0.02")
    _, lines, _ = derm(*given, "--json")
    _, out, _ = derm(*given, "--csv")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    for line, row in zip(lines.splitlines(), rows, strict=True):
        answer = json.loads(line)
        told, p = answer["at_prevalence"], answer["probabilities"]["malignant"]
        assert (told["prevalence"], told["trained_at"]) == ({"malignant": 0.02}, {"malignant": 0.3})
        assert logit(told["probabilities"]["malignant"]) - logit(p) == pytest.approx(logit(0.02) - logit(0.3), abs=1e-3)
        assert told["ppv"]["malignant"]["balanced"] == pytest.approx(0.02 * 0.9 / (0.02 * 0.9 + 0.98 * 0.1))
        assert float(row["at_prevalence.probabilities.malignant"]) == told["probabilities"]["malignant"]
        assert float(row["at_prevalence.prevalence.malignant"]) == 0.02
    _, plain, _ = derm(*given[:-2], "--json")
    assert "at_prevalence" not in plain


@pytest.mark.parametrize(
    ("task", "said", "why"),
    [
        (TASK, "2", "between 0 and 1"),
        ("lesion_classification", "0.02", "together they must be 1"),
        ("retinal_findings", "cataract:x", "a share lies between 0 and 1"),
        ("lesion_segmentation", "0.02", "gives no probabilities of labels"),
    ],
)
def test_what_cannot_be_corrected_is_refused_in_one_sentence(derm, models, images, task, said, why):
    code, _, err = derm("predict", task, images, "--model", models[task], "--prevalence", said)
    assert code == 2
    assert "'prevalence' must be" in err or why in err
    assert "Traceback" not in err


def test_the_prevalence_is_estimated_from_a_table_of_answers(derm, models, tmp_path):
    version, p = Bundle.open(models[TASK] / "bundle").version, answers(600, 0.05)
    table = pd.DataFrame({"file": [f"{k}.png" for k in range(600)], "model_version": version})
    table["probabilities.malignant"], table["abstained"] = p, False
    other = pd.DataFrame({"file": ["old.png"], "model_version": ["0123456789ab"], "probabilities.malignant": [0.9]})
    silent = table.head(2).assign(abstained=True, **{"probabilities.malignant": 0.99})
    pd.concat([table, other, silent]).to_csv(tmp_path / "answers.csv", index=False)
    code, out, err = derm("prevalence", TASK, tmp_path / "answers.csv", "--model", models[TASK])
    assert code == 0, err
    said = out.split("--prevalence ")[1].strip()
    assert float(said) == pytest.approx(0.05, abs=0.03)
    assert float(said) < p.mean() - 0.05  # the mean probability is what the model was trained at makes of it
    assert "1 of 603 answers are of other models" in err
    assert "2 answers in which the model abstained are left out" in err


def test_it_is_estimated_from_the_records_of_a_service_too(derm, models, tmp_path):
    version = Bundle.open(models[TASK] / "bundle").version
    journal = Journal(tmp_path / "records", days=0)
    for number, p in enumerate(answers(60, 0.3)):
        journal.append(
            Answered(
                f"{number:032x}", TASK, version, "0" * 32 + ".dir", f"{TASK}:one", (f"{number:064x}",),
                {"malignant": float(p)},
            )
        )  # fmt: skip
    code, out, err = derm("prevalence", TASK, tmp_path / "records", "--model", models[TASK])
    assert code == 0, err
    assert "60" in out
    assert 0.05 < float(out.split("--prevalence ")[1]) < 0.6


def test_answers_that_say_nothing_are_named(derm, models, tmp_path):
    (tmp_path / "other.csv").write_text("file,model_version,probabilities.melanoma\nx.png,0123456789ab,0.2\n")
    for arguments, why in (
        ((TASK, tmp_path / "other.csv"), "has no column 'probabilities.malignant'"),
        ((TASK, tmp_path / "nothing"), "holds no answers"),
        (("lesion_segmentation", tmp_path / "other.csv"), "gives no probabilities"),
    ):
        code, _, err = derm("prevalence", *arguments, "--model", models[arguments[0]])
        assert code == 2
        assert why in err
        assert "Traceback" not in err


def test_evaluate_says_what_a_flagged_image_is_worth_there(derm, trained, drawn_dataset, tmp_path, monkeypatch):
    written, write = [], report.save
    monkeypatch.setattr(report, "save", lambda *a, **more: written.append(a[1].name) or write(*a, **more))
    model = shutil.copytree(trained, tmp_path / "model")
    shares = "melanoma:0.02,nevus:0.9,seborrheic_keratosis:0.08"
    code, out, err = derm(
        "evaluate", "lesion_classification", model, "--data", drawn_dataset.path, "--prevalence", shares
    )
    assert code == 0, err
    assert written == ["evaluation_test"]  # once, with the table
    assert "PPV of melanoma at the balanced threshold where 2 % have it" in err + out
    stored = json.loads((model / "evaluation_test" / "evaluation.json").read_text())
    rows = [row for row in stored["tables"]["operating_prevalence"] if row["label"] == "melanoma"]
    assert rows
    assert all(row["prevalence"] == 0.02 and row["in_this_split"] > 0.1 for row in rows)
    assert "Operating prevalence" in (model / "evaluation_test" / "report.html").read_text()
    code, _, err = derm("evaluate", "lesion_classification", model, "--data", drawn_dataset.path, "--prevalence", "2 %")
    assert code == 2
    assert "together they must be 1" in err or "such as" in err
