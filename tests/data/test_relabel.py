"""`derm relabel`: exactly what a person decided changes, is recorded with the name, and can be undone."""

from __future__ import annotations

import csv
import datetime
import shutil
from pathlib import Path

import pandas as pd
import pytest

from derm_ml.data.deliveries import deliveries
from derm_ml.data.prepare import prepare
from derm_ml.data.relabel import LIST, relabel
from derm_ml.data.withdrawal import withdraw
from derm_ml.records import DataError
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")
AUTHOR = "A. Author"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "raw"
    TASK.draw(folder, 24, seed=3)
    return folder


@pytest.fixture
def raw(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "raw"))


def listed(
    folder: Path, *rows: tuple[str, ...], head: tuple[str, ...] = ("id", "label", "remark"), name: str = "reviewed"
) -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def prepared(raw: Path, task=TASK):
    return prepare(task, raw, task.settings(), raw.parent / "prepared")


def correct(raw: Path, *rows: tuple[str, ...], task=TASK, **options):
    return relabel(task, listed(raw.parent, *rows, **options), AUTHOR, raw, task.settings())


def test_exactly_the_named_labels_change_and_undoing_it_gives_the_same_data_again(raw):
    before = prepared(raw)
    truth, md5 = before.manifest.set_index("id"), before.md5
    images = {p: p.read_bytes() for p in raw.rglob("*") if p.is_file()}
    delivery = correct(
        raw, ("ISIC_0000000", "nevus", "globules"), ("ISIC_0000004", "", ""), ("ISIC_0000023", "melanoma", "")
    )
    after = prepared(raw)
    table = after.manifest.set_index("id")
    assert after.md5 != md5
    assert table.loc[["ISIC_0000000", "ISIC_0000023"], "label"].tolist() == ["nevus", "melanoma"]
    labels = ["label", *(c for c in truth.columns if c.startswith("target."))]
    pd.testing.assert_frame_equal(truth.drop(columns=labels), table.drop(columns=labels))
    others = truth.index.difference(["ISIC_0000000", "ISIC_0000023"])
    pd.testing.assert_frame_equal(truth.loc[others], table.loc[others])
    assert {p: p.read_bytes() for p in images} == images  # what was downloaded is as it was
    assert any(f"2 labels were corrected by {AUTHOR}" in note for note in after.account["notes"])
    withdraw(raw, delivery.name, raw.parent / "withdrawn")
    assert prepared(raw).md5 == md5


def test_the_record_names_author_date_and_remark_and_keeps_the_list(raw):
    path = listed(raw.parent, ("ISIC_0000000", "nevus", "second reader agrees"))
    relabel(TASK, path, f"  {AUTHOR} ", raw, TASK.settings())
    (kept,) = deliveries(raw)
    assert (kept.author, kept.date) == (AUTHOR, datetime.datetime.now(datetime.UTC).date().isoformat())
    (correction,) = kept.corrections
    assert (correction.remark, correction.row) == ("second reader agrees", 2)
    assert str(correction).endswith("ISIC_0000000.jpg: label melanoma → nevus")
    assert (raw / kept.folder / LIST).read_bytes() == path.read_bytes()


def test_the_last_word_counts_and_each_can_be_taken_back(raw):
    first = correct(raw, ("ISIC_0000000", "nevus", ""), name="first")
    second = correct(raw, ("ISIC_0000000", "seborrheic_keratosis", ""), name="second")

    def label() -> str:
        (row,) = (s for s in TASK.read(raw, TASK.settings()).samples if s.id == "ISIC_0000000")
        return row.label

    assert (first.number, second.number, label()) == (1, 2, "seborrheic_keratosis")
    withdraw(raw, "second", raw.parent / "withdrawn")
    assert label() == "nevus"
    withdraw(raw, "first", raw.parent / "withdrawn")
    assert label() == "melanoma"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("ISIC_0000000", "nevus", ""), ("ISIC_9", "nevus", "")], r"reviewed\.csv:3: there is no image 'ISIC_9'"),
        ([("ISIC_0000000", "nevi", "")], r"reviewed\.csv:2: no label 'nevi' \(did you mean 'nevus'\?\)"),
        ([("ISIC_0000000", "none", "")], r"reviewed\.csv:2: no label 'none'"),
        ([("ISIC_0000000", "nevus+melanoma", "")], r"reviewed\.csv:2: 'nevus\+melanoma' names several labels"),
        ([("ISIC_0000000", "melanoma", "")], r"reviewed\.csv:2: 'ISIC_0000000' is melanoma already"),
        ([("ISIC_0000000", "nevus", "")] * 2, r"reviewed\.csv:3: id 'ISIC_0000000' stands on line 2 already"),
        ([("ISIC_0000000", "", "")], r"reviewed\.csv: no row has a label"),
        ([("", "nevus", "")], r"reviewed\.csv:2: id is empty"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_nothing_is_recorded(raw, rows, said):
    before = sorted(raw.rglob("*"))
    with pytest.raises(DataError, match=said):
        correct(raw, *rows)
    assert sorted(raw.rglob("*")) == before


def test_a_correction_without_an_author_or_a_label_column_is_refused(raw):
    with pytest.raises(DataError, match="needs its author"):
        relabel(TASK, listed(raw.parent, ("ISIC_0000000", "nevus", "")), " ", raw, TASK.settings())
    with pytest.raises(DataError, match=r"reviewed\.csv:1: missing column label"):
        correct(raw, ("ISIC_0000000", "nevus"), head=("id", "suggested"))


def test_one_of_several_findings_is_corrected_and_what_nobody_knows_stays_unknown(tmp_path):
    task = get_task("retinal_findings")
    task.draw(tmp_path / "raw", 48, 0)
    raw = tmp_path / "raw"
    before = {s.id: s for s in task.read(raw, task.settings()).samples}
    names = [s.id for s in before.values() if s.label == "diabetic_retinopathy+glaucoma"][:2]
    correct(raw, (names[0], "glaucoma", ""), (names[1], "none", ""), task=task)
    after = {s.id: s for s in task.read(raw, task.settings()).samples}
    assert [after[name].label for name in names] == ["glaucoma", "none"]
    changed = {name for name in before if repr(before[name]) != repr(after[name])}  # NaN is not equal to NaN
    assert changed == set(names)
    unlabelled = next(s.id for s in before.values() if not s.labelled)
    with pytest.raises(DataError, match=f"'{unlabelled}' has no label to correct"):
        correct(raw, (unlabelled, "normal", ""), task=task)


def test_masks_are_not_corrected_by_a_list_of_labels(tmp_path):
    task = get_task("lesion_segmentation")
    task.draw(tmp_path / "raw", 8, 0)
    with pytest.raises(DataError, match="deliver the corrected files"):
        correct(tmp_path / "raw", ("lesion_00000", "lesion", ""), task=task)
