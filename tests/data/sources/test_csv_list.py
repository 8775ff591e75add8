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


@pytest.mark.parametrize(
    "given",
    [
        "ISIC_1",
        "ISIC_1.jpg",
        "isic_1.JPG",
        "images/part0/ISIC_1.JPG",
        "C:\\Users\\me\\ISIC_1.jpg",
        "/home/me/ISIC_1.jpg",
    ],
)
def test_an_image_is_found_however_the_list_spells_it(lay, given):
    """Ids without ending, another case and other people's folders are how lists come."""
    root = lay({"labels.csv": f"filename,label\n{given},nevus\n", "images/part0/ISIC_1.JPG": ""})
    assert [s.files["image"] for s in read_source(root, labels=LABELS).samples] == ["images/part0/ISIC_1.JPG"]


def test_zeros_that_a_spreadsheet_took_are_found_again(lay):
    root = lay({"labels.csv": "filename,label\n7,nevus\n", "images/0007.jpg": ""})
    assert [s.id for s in read_source(root, labels=LABELS).samples] == ["0007"]


def test_a_name_that_two_images_have_is_not_guessed(lay):
    files = {"labels.csv": "filename,label\n1.jpg,nevus\n", "x/1.jpg": "one", "y/1.jpg": "other"}
    with pytest.raises(DataError, match=r"labels\.csv:2: 1\.jpg is there twice \(x/1\.jpg, y/1\.jpg\); write its path"):
        read_source(lay(files), labels=LABELS)
    files["labels.csv"] = "filename,label\ny/1.jpg,nevus\n"
    assert [s.files["image"] for s in read_source(lay(files), labels=LABELS).samples] == ["y/1.jpg"]


def test_two_rows_of_one_image_are_refused_however_they_spell_it(lay):
    root = lay({"labels.csv": "filename,label\na,nevus\nA.JPG,melanoma\n", "a.jpg": ""})
    with pytest.raises(DataError, match=r"labels\.csv:3: a\.jpg stands on line 2 of labels\.csv already"):
        read_source(root, labels=LABELS)


def test_one_list_a_split(lay):
    lists = {f"{name}.csv": f"filename,label\n{name}1.jpg,nevus\n" for name in ("train", "valid", "test")}
    root = lay({**lists, **{f"images/{name}1.jpg": "" for name in ("train", "valid", "test")}})
    assert {s.id: s.split for s in read_source(root, labels=LABELS).samples} == {
        "train1": "train",
        "valid1": "validation",
        "test1": "test",
    }


def test_skin_tone_device_and_isic_s_own_columns_are_kept(lay):
    text = "filename,label,age_approx,anatom_site_general,fitzpatrick,monk,device\na.jpg,nevus,55,torso,IV,7,DermLite\n"
    (sample,) = read_source(lay({"labels.csv": text, "a.jpg": ""}), labels=LABELS).samples
    assert sample.attributes == {"age": 55.0, "site": "torso", "fitzpatrick": "4", "monk": "7", "device": "dermlite"}
    with pytest.raises(DataError, match=r"labels\.csv:2: fitzpatrick is '9'; write a skin type from 1 to 6"):
        read_source(lay({"labels.csv": text.replace("IV", "9"), "a.jpg": ""}), labels=LABELS)
