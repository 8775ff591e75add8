"""The official ISIC 2017 folders, as unpacked, are read completely and with the published splits."""

from __future__ import annotations

from collections import Counter

import pytest

from derm_ml.data.sources import read_source
from derm_ml.records import DataError, Problem

LABELS = ("melanoma", "nevus", "seborrheic_keratosis")
TRUTH = "image_id,melanoma,seborrheic_keratosis\n"
FILES = {
    "ISIC-2017_Training_Data/ISIC_0.jpg": "",
    "ISIC-2017_Training_Data/ISIC_0_superpixels.png": "",
    "ISIC-2017_Training_Data/ISIC_1.jpg": "",
    "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv": "image_id,age_approximate,sex\nISIC_0,55,female\n",
    "ISIC-2017_Training_Part3_GroundTruth.csv": TRUTH + "ISIC_0,1.0,0.0\nISIC_1,0,0\n",
    "ISIC-2017_Validation_Data/ISIC_2.jpg": "",
    "ISIC-2017_Validation_Data_metadata.csv": "image_id,age_approximate,sex\nISIC_2,unknown,unknown\n",
    "ISIC-2017_Validation_Part3_GroundTruth.csv": TRUTH + "ISIC_2,0.0,1.0\n",
    "ISIC-2017_Test_v2_Data/ISIC_3.jpg": "",
    "ISIC-2017_Test_v2_Part3_GroundTruth.csv": TRUTH + "ISIC_3,0.0,0.0\n",
}


def test_reads_splits_labels_and_metadata(lay):
    reading = read_source(lay(FILES), labels=LABELS)
    assert reading.problems == ()
    assert {s.id: (s.split, s.label) for s in reading.samples} == {
        "ISIC_0": ("train", "melanoma"),
        "ISIC_1": ("train", "nevus"),
        "ISIC_2": ("validation", "seborrheic_keratosis"),
        "ISIC_3": ("test", "nevus"),
    }
    first = reading.samples[0]
    assert first.attributes == {"age": 55.0, "sex": "female", "diagnosis": "melanoma"}
    assert first.files == {"image": "ISIC-2017_Training_Data/ISIC_0.jpg"}
    assert reading.samples[2].attributes == {"diagnosis": "seborrheic_keratosis"}
    assert {s.source for s in reading.samples} == {"isic2017"}


def test_image_without_row_and_row_without_image_are_problems(lay):
    """Neither may vanish: the counts in the report would not add up to the folder."""
    files = {**FILES, "ISIC-2017_Validation_Data/ISIC_9.jpg": ""}
    del files["ISIC-2017_Training_Data/ISIC_1.jpg"]
    reading = read_source(lay(files), labels=LABELS)
    assert [s.id for s in reading.samples] == ["ISIC_0", "ISIC_2", "ISIC_3"]
    assert {(p.file, p.row) for p in reading.problems} == {
        ("ISIC-2017_Training_Part3_GroundTruth.csv", 3),
        ("ISIC-2017_Validation_Data/ISIC_9.jpg", None),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Training_Part3_GroundTruth", TRUTH + "ISIC_0,1,1\n", "GroundTruth.csv:2: .*at once"),
        ("Training_Part3_GroundTruth", TRUTH + "ISIC_0,1,0\nISIC_1,0.5,0\n", "GroundTruth.csv:3: melanoma is '0.5'"),
        ("Training_Part3_GroundTruth", TRUTH + "ISIC_0,,0\n", "GroundTruth.csv:2: melanoma is ''"),
        ("Training_Part3_GroundTruth", "image_id,melanoma\nISIC_0,1\n", "missing column seborrheic_keratosis"),
        ("Validation_Data_metadata", "image_id,age_approximate,sex\nISIC_2,55,f?\n", "metadata.csv:2: sex is 'f\\?'"),
    ],
)
def test_wrong_lists_name_file_and_line(lay, name, content, message):
    with pytest.raises(DataError, match=message):
        read_source(lay({**FILES, f"ISIC-2017_{name}.csv": content}), labels=LABELS)


def test_folder_without_truth_says_what_to_add(lay):
    files = {name: text for name, text in FILES.items() if "Test_v2_Part3" not in name}
    with pytest.raises(DataError, match=r"put ISIC-2017_Test_v2_Part3_GroundTruth\.csv beside it"):
        read_source(lay(files), labels=LABELS)


def test_truth_without_folder_says_what_to_add(lay):
    files = {name: text for name, text in FILES.items() if not name.startswith("ISIC-2017_Test_v2_Data")}
    with pytest.raises(DataError, match="folder ISIC-2017_Test_v2_Data is not there"):
        read_source(lay(files), labels=LABELS)


def test_another_task_reads_it_through_a_label_map(lay):
    names = {"melanoma": "malignant", "nevus": "benign", "seborrheic_keratosis": None}
    reading = read_source(lay(FILES), labels=("benign", "malignant"), label_map=names)
    assert Counter(s.label for s in reading.samples) == {"malignant": 1, "benign": 2}
    assert reading.left_out == {"seborrheic_keratosis": 1}
    with pytest.raises(DataError, match=r"GroundTruth\.csv:2: unknown label 'melanoma'"):
        read_source(lay(FILES), labels=("benign", "malignant"))


def test_metadata_of_an_unknown_image_is_a_problem(lay):
    files = {**FILES, "ISIC-2017_Validation_Data_metadata.csv": "image_id,age_approximate,sex\nISIC_7,5,male\n"}
    reading = read_source(lay(files), labels=LABELS)
    assert reading.problems == (
        Problem("ISIC-2017_Validation_Data_metadata.csv", "image ISIC_7 has no ground truth", 2),
    )


def test_the_real_folder(shared_data):
    reading = read_source(shared_data / "isic2017", labels=LABELS)
    assert Counter(s.split for s in reading.samples) == {"train": 1996, "validation": 149}
    assert reading.problems == ()
