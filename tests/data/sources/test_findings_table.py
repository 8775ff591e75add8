"""A table of findings: rows and images are one set, and what is not known stays unknown."""

from __future__ import annotations

import math

import pytest

from derm_ml.data.sources import read_source
from derm_ml.records import DataError

HEAD = "filename,patient_id,eye,age,sex,Glaucoma,normal\n"
ROWS = "7_left.jpg,7,left,61,Female,1,0\n7_right.jpg,7,right,61,Female,,1\n"
FILES = {"train.csv": HEAD + ROWS, "train/7_left.jpg": "", "train/7_right.jpg": ""}


def test_rows_become_targets_patients_and_eyes(lay):
    left, right = read_source(lay(FILES), labels=()).samples
    assert (left.id, left.patient, left.files) == ("7_left", "7", {"image": "train/7_left.jpg"})
    assert left.attributes == {"age": 61.0, "sex": "female", "eye": "left"}
    assert left.target == {"glaucoma": 1.0, "normal": 0.0}
    assert math.isnan(right.target["glaucoma"])
    assert right.positives == ("normal",)


def test_an_unlabelled_fellow_eye_is_known_to_be_the_patient_s(lay):
    """Else it could be trained on while its patient is tested."""
    *_, sample = read_source(lay({**FILES, "unlabeled/9_left.jpg": ""}), labels=()).samples
    assert (sample.id, sample.patient, sample.labelled, sample.label) == ("9_left", "9", False, "unlabelled")


def test_names_that_are_no_patient_numbers_name_no_patient(lay):
    table = HEAD + "a_left.jpg,7,left,61,Female,1,0\n"
    root = lay({"train.csv": table, "train/a_left.jpg": "", "unlabelled/9_left.jpg": ""})
    assert read_source(root, labels=()).samples[-1].patient == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({**FILES, "train/8_left.jpg": ""}, "1 images are not listed .train/8_left.jpg"),
        ({k: v for k, v in FILES.items() if k != "train/7_right.jpg"}, r"train.csv:3: there is no image 7_right.jpg"),
        ({**FILES, "more/7_left.jpg": ""}, r"train.csv:2: 7_left.jpg is there twice"),
        ({**FILES, "train.csv": HEAD + ROWS.replace(",1,0\n", ",2,0\n")}, r"train.csv:2: glaucoma is '2'"),
        ({**FILES, "train.csv": HEAD + ROWS.replace(",1,0\n", ",0.5,0\n")}, r"train.csv:2: glaucoma is '0.5'"),
        ({**FILES, "train.csv": HEAD + ROWS.replace("7,left", "7,up")}, r"train.csv:2: eye is 'up'"),
        ({**FILES, "train.csv": HEAD.replace("normal", "2nd") + ROWS}, "column '2nd' cannot name a finding"),
    ],
)
def test_a_table_that_is_not_the_images_stops_the_reading(lay, files, message):
    with pytest.raises(DataError, match=message):
        read_source(lay(files), labels=())


def test_a_task_with_labels_of_its_own_takes_those_columns_alone(lay):
    root = lay(FILES)
    assert set(read_source(root, labels=("glaucoma",)).samples[0].target) == {"glaucoma"}
    with pytest.raises(DataError, match=r"train.csv:1: missing column melanoma"):
        read_source(root, labels=("melanoma",))


CLASSES = "filename,melanoma,nevus,bcc,artefact\n"


def test_columns_of_classes_that_exclude_each_other_are_one_label_a_row(lay):
    """Images of no modelled class had joined training with no label at all."""
    rows = "a.jpg,1,0,0,1\nb.jpg,0,1,0,0\nc.jpg,0,0,1,0\nd.jpg,0,0,0,1\n"
    files = {"train.csv": CLASSES + rows, **{f"{name}.jpg": "" for name in "abcd"}}
    reading = read_source(lay(files), labels=("melanoma", "nevus", "seborrheic_keratosis"))
    assert {s.id: s.label for s in reading.samples} == {"a": "melanoma", "b": "nevus"}
    assert reading.left_out == {"bcc": 1, "none of the classes": 1}


def test_two_classes_at_once_are_refused_by_line(lay):
    files = {"train.csv": CLASSES + "a.jpg,1,0,0,0\nb.jpg,0,1,1,0\n", "a.jpg": "", "b.jpg": ""}
    with pytest.raises(DataError, match=r"train\.csv:3: the image is nevus and bcc at once"):
        read_source(lay(files), labels=("melanoma", "nevus", "seborrheic_keratosis"))
