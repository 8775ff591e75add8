"""A folder with a list: what every hospital can make. Wrong rows stop it, missing files are set aside."""

from __future__ import annotations

import pytest

from derm_ml.data.sources import read_source
from derm_ml.records import DataError

LABELS = ("melanoma", "nevus")
FULL = (
    "filename,label,split,patient_id,lesion_id,age,sex,site\n"
    "a.jpg,Melanoma,train,p1,l1,54,F,Back\n"
    "sub/b.png,nevus,valid,p1,,unknown,,\n"
)


def test_reads_all_columns(lay):
    reading = read_source(lay({"labels.csv": FULL, "a.jpg": "", "sub/b.png": ""}), labels=LABELS)
    first, second = reading.samples
    assert (first.id, first.label, first.split, first.patient, first.lesion) == ("a", "melanoma", "train", "p1", "l1")
    assert first.attributes == {"age": 54.0, "sex": "female", "site": "back"}
    assert (second.id, second.split, second.files, second.attributes) == ("b", "validation", {"image": "sub/b.png"}, {})


@pytest.mark.parametrize("name", ["labels.csv", "my list.csv"])
def test_images_may_lie_in_a_folder_beside_the_list(lay, name):
    root = lay({name: "filename,label\na.jpg,nevus\n", "images/a.jpg": ""})
    assert read_source(root, labels=LABELS).samples[0].files == {"image": "images/a.jpg"}


def test_missing_and_unlisted_images_are_problems(lay):
    root = lay({"labels.csv": "filename,label\na.jpg,nevus\nb.jpg,nevus\n", "a.jpg": "", "c.jpg": ""})
    reading = read_source(root, labels=LABELS)
    assert [s.id for s in reading.samples] == ["a"]
    assert {(p.file, p.row) for p in reading.problems} == {("labels.csv", 3), ("c.jpg", None)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../a.jpg,nevus,", "filename '.*' leads out of the folder"),
        ("/etc/passwd,nevus,", "filename '.*' leads out of the folder"),
        ("a.jpg,wart,", "unknown label 'wart'"),
        ("a.jpg,,", "unknown label ''"),
        ("a.jpg,nevus,holdout", "split is 'holdout'"),
    ],
)
def test_wrong_rows_stop_the_batch(lay, row, message):
    with pytest.raises(DataError, match=rf"labels\.csv:2: {message}"):
        read_source(lay({"labels.csv": f"filename,label,split\n{row}\n", "a.jpg": ""}), labels=LABELS)


def test_same_stem_in_two_folders(lay):
    root = lay({"labels.csv": "filename,label\nx/1.jpg,nevus\ny/1.jpg,nevus\n", "x/1.jpg": "", "y/1.jpg": ""})
    assert [s.id for s in read_source(root, labels=LABELS).samples] == ["x-1", "y-1"]
