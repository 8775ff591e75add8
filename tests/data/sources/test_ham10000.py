"""HAM10000: lesions stay together, and what the task has no label for is counted."""

from __future__ import annotations

from collections import Counter

import pytest

from derm_ml.data.sources import read_source
from derm_ml.records import DataError

LABELS = ("melanoma", "nevus", "seborrheic_keratosis")
HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
LIST = HEADER + "L1,I1,bkl,histo,80.0,male,Scalp\nL1,I2,bkl,histo,80.0,male,scalp\nL2,I3,bcc,histo,,unknown,unknown\n"
FILES = {"HAM10000_metadata.csv": LIST, **{f"HAM10000_images/I{n}.jpg": "" for n in (1, 2, 3)}}


def test_reads_lesions_diagnoses_and_attributes(lay):
    reading = read_source(lay(FILES), labels=LABELS)
    assert [(s.id, s.label, s.lesion, s.split) for s in reading.samples] == [
        ("I1", "seborrheic_keratosis", "L1", ""),
        ("I2", "seborrheic_keratosis", "L1", ""),
    ]
    assert reading.samples[0].attributes == {"age": 80.0, "sex": "male", "site": "scalp", "diagnosis": "bkl"}
    assert reading.left_out == {"bcc": 1}
    assert reading.problems == ()


def test_the_two_part_folders_of_the_archive(lay):
    files = {
        "HAM10000_metadata": LIST,
        "HAM10000_images_part_1/I1.jpg": "",
        "HAM10000_images_part_2/I2.jpg": "",
        "HAM10000_images_part_2/I4.jpg": "",
    }
    reading = read_source(lay(files), labels=LABELS)
    assert [s.files["image"] for s in reading.samples] == [
        "HAM10000_images_part_1/I1.jpg",
        "HAM10000_images_part_2/I2.jpg",
    ]
    assert [(p.file, p.row) for p in reading.problems] == [("HAM10000_images_part_2/I4.jpg", None)]


def test_malignancy_by_label_map(lay):
    names = {"bkl": "benign", "bcc": "malignant"}
    reading = read_source(lay(FILES), labels=("benign", "malignant"), label_map=names)
    assert Counter(s.label for s in reading.samples) == {"benign": 2, "malignant": 1}


def test_one_label_task_maps_the_rest_to_none(lay):
    reading = read_source(lay(FILES), labels=("malignant",), label_map={"bkl": "", "bcc": "malignant"})
    assert [s.target for s in reading.samples] == [{"malignant": 0.0}, {"malignant": 0.0}, {"malignant": 1.0}]


def test_without_a_label_map_another_task_is_told_so(lay):
    with pytest.raises(
        DataError, match=r"metadata\.csv:2: unknown label 'bkl'; correct it, or add it to the label map"
    ):
        read_source(lay(FILES), labels=("benign", "malignant"))


def test_a_label_map_that_leads_nowhere_is_refused(lay):
    with pytest.raises(DataError, match="leads to wart"):
        read_source(lay(FILES), labels=LABELS, label_map={"bkl": "wart"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("L1,I1,what,histo,80,male,scalp\n", "csv:2: unknown label 'what'"),
        ("L1,I1,nv,histo,80,male,scalp\nL2,I1,nv,histo,80,male,scalp\n", "csv:3: image_id 'I1' stands on line 2"),
        ("L1,I1,nv,histo,old,male,scalp\n", "csv:2: age is 'old'"),
    ],
)
def test_wrong_lists_name_file_and_line(lay, rows, message):
    with pytest.raises(DataError, match=message):
        read_source(lay({**FILES, "HAM10000_metadata.csv": HEADER + rows}), labels=LABELS)


def test_list_without_images(lay):
    with pytest.raises(DataError, match="unpack the images there"):
        read_source(lay({"HAM10000_metadata.csv": LIST}), labels=LABELS)


def test_the_real_folder(shared_data):
    reading = read_source(shared_data / "ham10000", labels=LABELS)
    assert Counter(s.label for s in reading.samples) == {"nevus": 6705, "melanoma": 1113, "seborrheic_keratosis": 1099}
    assert reading.left_out == {"bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    assert reading.problems == ()
