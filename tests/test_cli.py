"""The command line as a person uses it: real files in, tables and files out, sentences for mistakes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from derm_ml import RESEARCH_USE, DermError, cli
from derm_ml.bundles.classifier import Classifier
from derm_ml.cli import app

TASK = "lesion_classification"


@pytest.fixture
def derm(tmp_path, monkeypatch):
    """Run `derm …` in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "out"):
        monkeypatch.setenv(f"DERM_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(cli.notes, "width", 400)
    runner = CliRunner()

    def run(*arguments: object) -> tuple[int, str, str]:
        result = runner.invoke(app, [str(a) for a in arguments])
        if isinstance(result.exception, DermError):  # what main() prints and turns into exit status 2
            return 2, result.stdout, result.stderr + str(result.exception)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_help_teaches_every_verb(derm):
    code, out, _ = derm("--help")
    assert code == 0
    for verb in ("fetch", "draw", "prepare", "fit", "evaluate", "explain", "predict", "promote", "rollback"):
        assert verb in out


def test_predict_says_what_evaluate_said(derm, trained, drawn_dataset, drawn_raw):
    """The number a researcher sees for a picture must be the number in the report (≤ 1e-5)."""
    predictor = Classifier(trained / "bundle")
    rows = drawn_dataset.split("test").head(4)
    pictures = [next(drawn_raw.rglob(f"{name}.jpg")) for name in rows["id"]]
    code, out, _ = derm("predict", TASK, *pictures, "--model", trained, "--json", "--option", "abstained=numbers")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    for answer, (_, row) in zip(answers, rows.iterrows(), strict=True):
        expected = predictor([drawn_dataset.image(row)]).probabilities[0]
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)


def test_a_folder_becomes_a_csv_with_one_row_a_picture(derm, trained, drawn_raw):
    folder = drawn_raw / "ISIC-2017_Test_Data"
    code, out, err = derm("predict", TASK, folder, "--model", trained, "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == len(list(folder.glob("*.jpg")))
    assert {"file", "predicted", "probabilities.melanoma"} <= set(rows[0])
    assert RESEARCH_USE in err


def test_a_broken_picture_is_named_and_the_others_are_answered(derm, trained, drawn_raw, tmp_path):
    good = next((drawn_raw / "ISIC-2017_Test_Data").glob("*.jpg"))
    shutil.copy(good, tmp_path / "good.jpg")
    (tmp_path / "broken.jpg").write_bytes(good.read_bytes()[:500])
    code, out, err = derm("predict", TASK, tmp_path / "broken.jpg", tmp_path / "good.jpg", "--model", trained, "--json")
    assert code != 0
    assert "broken.jpg" in err
    assert len(out.splitlines()) == 1


def test_explain_writes_an_overlay(derm, trained, drawn_raw):
    picture = next((drawn_raw / "ISIC-2017_Test_Data").glob("*.jpg"))
    code, out, _ = derm("explain", TASK, picture, "--model", trained, "--label", "melanoma")
    assert code == 0
    assert Path(out.strip()).stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "no_such_task"], "no task 'no_such_task'"),
        (["fit", TASK, "--recipe", "weak"], "no recipe 'weak'"),
        (["fit", TASK, "--set", "epochs=many"], "epochs"),
        (["predict", TASK, "nowhere.jpg", "--model", "MODEL"], "no such file"),
        (["predict", TASK, "nowhere.jpg", "--model", "MODEL", "--age", "200"], "--age 200: write years"),
    ],
)
def test_a_mistake_gets_a_sentence(derm, trained, drawn_dataset, arguments, sentence):
    shutil.copytree(drawn_dataset.path, Path("data/prepared") / TASK)
    code, out, err = derm(*[trained if a == "MODEL" else a for a in arguments])
    assert code != 0
    assert sentence in out + err
    assert "Traceback" not in out + err


def test_a_red_data_rule_stops_training(derm, drawn_raw, tmp_path):
    raw = Path(shutil.copytree(drawn_raw, tmp_path / "raw"))
    name = next((raw / "ISIC-2017_Test_Data").glob("*.jpg"))
    shutil.copy(name, raw / "ISIC-2017_Training_Data" / "ISIC_9999999.jpg")
    with (raw / "ISIC-2017_Training_Part3_GroundTruth.csv").open("a") as file:
        file.write("ISIC_9999999,0.0,0.0\n")
    params = tmp_path / "params.yaml"
    params.write_text(f"tasks:\n  {TASK}:\n    duplicates: stop\n")
    code, _, err = derm("prepare", TASK, "--raw", raw, "--params", params)
    assert code == 1
    assert "✗ no_duplicates_across_splits" in err
    code, _, err = derm("fit", TASK, "--recipe", "drawn")
    assert code != 0
    written = {file.name for file in Path("out").rglob("*") if file.is_file()}
    assert written == {"contradictions.png", "contradictions.html"}


def test_an_error_is_one_sentence_on_stderr_and_exit_status_2(tmp_path):
    command = [sys.executable, "-m", "derm_ml.cli", "fit", TASK, "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "is not a prepared dataset" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
