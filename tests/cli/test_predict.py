"""`derm predict`: every answer reaches the file it is written to, whatever the others are and whatever comes after."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from derm_ml import RESEARCH_USE
from derm_ml.asking.answers import NO_GATE, SYNTHETIC
from derm_ml.synthetic.lesions import draw_lesion

pytestmark = pytest.mark.slow

TASKS = ("lesion_classification", "malignancy_screening", "retinal_findings", "lesion_segmentation")
NULLED = {"bounding_box", "probabilities", "decision", "decisions", "operating_points"}  # where there is none of it
BOX = ("left", "top", "width", "height")


@pytest.mark.parametrize("name", TASKS)
def test_a_table_has_the_columns_of_the_task_whatever_the_first_answer_is(derm, models, images, name):
    """529 answers were lost because the first image had no lesion, and so no bounding box."""
    code, out, err = derm("predict", name, images, "--model", models[name], "--csv")
    assert (code, "3_torn.png" in err, "1 of 4 images could not be read" in err) == (2, True, True)
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [os.path.basename(row["file"])[:1] for row in rows] == ["1", "2", "4"]
    code, lines, _ = derm("predict", name, images, "--model", models[name], "--json")
    answers = [json.loads(line) for line in lines.splitlines()]
    for row, answer in zip(rows, answers, strict=True):
        scalars = {key for key, value in answer.items() if not isinstance(value, dict | list)}
        nested = {f"{key}.{inner}" for key, value in answer.items() if isinstance(value, dict) for inner in value}
        assert (scalars - NULLED) | nested <= set(row), "an answer holds what the table has no column for"
        assert row["research_use"] == answer["research_use"] == RESEARCH_USE
        assert row["warnings"] == " ".join(answer["warnings"])


def test_an_answer_says_its_purpose_once_and_what_to_mind(derm, models, images):
    """An age the model was not trained with must not be believed to have counted; the answer goes on without whoever
    typed the command."""
    given = ("predict", TASKS[0], images, "--model", models[TASKS[0]], "--age", 63)
    _, lines, err = derm(*given, "--json")
    for line in lines.splitlines():
        assert line.count(RESEARCH_USE) == line.count('"research_use"') == 1
        unused = "'age' has no effect: the model was not trained with it."
        assert json.loads(line)["warnings"] == [SYNTHETIC, NO_GATE, unused]
    assert (err.count(SYNTHETIC), err.count("'age' has no effect"), err.count(RESEARCH_USE)) == (1, 1, 1)
    _, out, _ = derm(*given, "--csv")
    assert all("'age' has no effect" in row["warnings"] for row in csv.DictReader(io.StringIO(out, newline="")))


def test_a_table_holds_the_probabilities_of_every_image_and_says_where_the_model_abstains(derm, trained, tmp_path):
    """Held-out sets are scored with such tables: a row without numbers changes the score."""
    names = ("own", "black", "noise")
    lesion = draw_lesion("nevus", seed=7_000_021, side=144, width=192).image
    noise = np.random.default_rng(0).integers(0, 256, lesion.shape, np.uint8)
    for name, image in zip(names, (lesion, np.zeros_like(lesion), noise), strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    given = ("predict", TASKS[0], *(tmp_path / f"{name}.png" for name in names), "--model", trained)
    code, out, _ = derm(*given, "--csv")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert (code, [row["abstained"] for row in rows]) == (0, ["False", "True", "True"])
    assert all(float(row["probabilities.melanoma"]) >= 0 for row in rows)
    assert [bool(row["predicted"]) for row in rows] == [True, False, False]
    assert rows[1]["quality"] == "dark"
    _, lines, _ = derm(*given, "--json")
    assert [json.loads(line)["probabilities"] is None for line in lines.splitlines()] == [False, True, True]
    _, shown, _ = derm(*given)
    assert "the image is too dark" in " ".join(shown.split())


def test_without_a_lesion_the_bounding_box_is_empty(derm, models, images):
    _, out, _ = derm("predict", "lesion_segmentation", images, "--model", models["lesion_segmentation"], "--csv")
    clear, spot, _ = csv.DictReader(io.StringIO(out, newline=""))
    assert [clear[f"bounding_box.{side}"] for side in BOX] == [""] * 4
    assert all(int(spot[f"bounding_box.{side}"]) > 0 for side in BOX)
    assert float(clear["area_share"]) == 0


def test_the_columns_and_lines_are_those_others_read(derm, models, images):
    """The format is public: names, order and line ends stay."""
    _, out, _ = derm("predict", TASKS[0], images, "--model", models[TASKS[0]], "--csv")
    labels = ("melanoma", "nevus", "seborrheic_keratosis")
    head = ["file", "task", "predicted", *(f"probabilities.{label}" for label in labels)]
    foot = ["model_version", "dataset_md5", "for_synthetic_images", "licences", "warnings", "research_use"]
    foot += ["quality", "in_distribution", "abstained", "abstained_because"]
    assert out.startswith(",".join([*head, *foot]) + "\r\n")
    assert out.count("\r\n") == out.count("\n") == 4


def test_people_get_the_table_of_what_was_answered(derm, models, images):
    code, out, _ = derm("predict", "malignancy_screening", images, "--model", models["malignancy_screening"])
    assert code == 2
    assert ("1_clear.png" in out, "4_dark.png" in out, "3_torn.png" in out) == (True, True, False)
    assert "no decision at" in out or "recall" in out


@pytest.mark.parametrize("form", ["--csv", "--json", "table"])
def test_an_interruption_keeps_what_was_answered(models, images, tmp_path, form):
    """Ctrl-C in the middle of a night's folder: one line, exit status 130, and the answers until then."""
    many = tmp_path / "many"
    many.mkdir()
    for n in (0, 1, 2, *range(4, 2000)):
        os.link(
            shutil.copy(images / "2_spot.png", tmp_path) if n == 0 else tmp_path / "2_spot.png", many / f"{n:04}.png"
        )
    shutil.copy(images / "3_torn.png", many / "0003.png")
    options = [] if form == "table" else [form]
    command = [sys.executable, "-m", "derm_ml.cli", "predict", TASKS[0], many, "--model", models[TASKS[0]], *options]
    with (tmp_path / "out").open("w+") as out:
        # what a shell starts in the background ignores Ctrl-C, and so would all that the tests start
        heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        asked = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=tmp_path, **heard)
        assert asked.stderr is not None
        assert "0003.png" in asked.stderr.readline()  # it is named as it is met: three were answered, none is the last
        asked.send_signal(signal.SIGINT)
        _, err = asked.communicate(timeout=120)
        out.seek(0)
        said = out.read()
    assert asked.returncode == 130
    assert err.strip().splitlines()[-1] == "derm: interrupted; what was answered or finished before stands"
    assert "Traceback" not in err
    assert all(f"000{n}.png" in said for n in range(3))
    assert "1999.png" not in said


def test_a_full_disk_behind_the_output_is_one_sentence(models, images, tmp_path):
    command = [sys.executable, "-m", "derm_ml.cli", "predict", TASKS[0], images, "--model", models[TASKS[0]], "--csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "the standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
