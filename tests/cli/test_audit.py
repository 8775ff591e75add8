"""`derm audit` and `derm relabel` from a terminal: what they print, and what they say to what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from derm_ml.audit import report
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long

NAME = "lesion_classification"


@pytest.fixture
def prepared(derm, tmp_path) -> Path:
    get_task(NAME).draw(tmp_path / "data/raw" / NAME, 45, 0)
    code, out, _ = derm("prepare", NAME, "--no-checks")
    assert code == 0
    return Path(out.strip())


def test_images_are_compared_by_a_models_embeddings_where_one_is_given(derm, prepared, models, tmp_path):
    code, out, err = derm("audit", NAME, "--model", models[NAME], "--out", tmp_path / "looked")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "looked" / report.REPORT
    assert "By the embeddings of " in err  # darkness alone does not tell the classes
    assert "too poorly to call one wrong" in err


def test_the_corrections_are_named_with_the_way_back(derm, prepared, tmp_path):
    (tmp_path / "reviewed.csv").write_text("id,label\nISIC_0000000,nevus\n")
    code, out, err = derm("relabel", NAME, "reviewed.csv", "--author", "A. Author")
    assert code == 0
    folder = Path(out.strip())
    assert "ISIC_0000000.jpg: label melanoma → nevus" in err
    assert f"derm withdraw {NAME} {folder.name}" in err
    code, _, err = derm("withdraw", NAME, folder.name)
    assert code == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", NAME], "is not a prepared dataset"),
        (["audit", "lesion_segmentation", "--model", "somewhere"], "give no embedding: leave --model out"),
        (["relabel", NAME, "missing.csv", "--author", "A"], "missing.csv"),
        (["relabel", NAME, "missing.csv"], "author"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(derm, words, said):
    code, _, err = derm(*words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_folder_of_other_files_is_not_replaced_by_a_report(derm, prepared, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    code, _, err = derm("audit", NAME, "--out", tmp_path / "mine")
    assert code == 2
    assert "would be lost" in err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "notes"
