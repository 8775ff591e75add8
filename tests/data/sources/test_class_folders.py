"""One folder a class: names as people write them, nothing beside them lost."""

from __future__ import annotations

import pytest

from derm_ml.data.sources import read_source
from derm_ml.records import DataError

LABELS = ("melanoma", "nevus", "seborrheic_keratosis")


def test_with_splits(lay):
    root = lay(
        {
            "train/Melanoma/a.jpg": "",
            "train/seborrheic keratosis/b.JPG": "",
            "valid/nevus/deep/c.png": "",
            "Test/NEVUS/d.tif": "",
        }
    )
    reading = read_source(root, labels=LABELS)
    assert {s.id: (s.split, s.label) for s in reading.samples} == {
        "a": ("train", "melanoma"),
        "b": ("train", "seborrheic_keratosis"),
        "c": ("validation", "nevus"),
        "d": ("test", "nevus"),
    }
    assert reading.problems == ()


def test_without_splits(lay):
    reading = read_source(lay({"melanoma/a.jpg": "", "nevus/b.jpg": ""}), labels=LABELS)
    assert [(s.id, s.split, s.label) for s in reading.samples] == [("a", "", "melanoma"), ("b", "", "nevus")]


def test_same_file_names_in_two_folders_stay_two_samples(lay):
    """Sets that count from 1 in every folder are common; the second must not replace the first."""
    root = lay({"train/benign/1.jpg": "", "train/malignant/1.jpg": "", "train/malignant/2.jpg": ""})
    reading = read_source(root, labels=("benign", "malignant"))
    assert [s.id for s in reading.samples] == ["train-benign-1", "train-malignant-1", "2"]


def test_unknown_class_is_named(lay):
    with pytest.raises(DataError, match=r"wart: unknown label 'wart'; correct it, or add it to the label map"):
        read_source(lay({"melanoma/a.jpg": "", "wart/b.jpg": ""}), labels=LABELS)


def test_left_out_class_is_counted(lay):
    root = lay({"melanoma/a.jpg": "", "wart/b.jpg": "", "wart/c.jpg": ""})
    assert read_source(root, labels=LABELS, label_map={"wart": None}).left_out == {"wart": 2}


def test_strays_are_problems_and_system_files_are_not(lay):
    root = lay(
        {
            "melanoma/a.jpg": "",
            "melanoma/movie.gif": "",
            "melanoma/Thumbs.db": "",
            "melanoma/.DS_Store": "",
            "melanoma/._a.jpg": "",
            "stray.jpg": "",
            "LICENCE.txt": "",
        }
    )
    reading = read_source(root, labels=LABELS)
    assert [s.id for s in reading.samples] == ["a"]
    assert [p.file for p in reading.problems] == ["melanoma/movie.gif", "stray.jpg"]
