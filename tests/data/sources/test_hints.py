"""A folder that no layout recognises: the message says what is probably meant, with names of that folder."""

from __future__ import annotations

import pytest

from derm_ml.records import DataError
from derm_ml.registry import get_task
from tests.data.sources.published_sets import picture, table

KINDS = ("melanoma", "nevus", "seborrheic_keratosis")


def read(task, root, **settings):
    return get_task(task).read(root, get_task(task).settings(**settings))


def listed(folder, names, header=("filename", "label"), file="labels.csv"):
    for name in names:
        picture(folder / "images" / f"{name}.png")
    table(folder / file, header, [(f"{name}.png", KINDS[k % 3]) for k, name in enumerate(names)])


@pytest.mark.parametrize("file", ["labels.csv", "export.csv"])
def test_columns_with_other_names(tmp_path, file):
    listed(tmp_path, "abc", ("file", "class"), file)
    with pytest.raises(DataError, match="rename file to filename and class to label in"):
        read("lesion_classification", tmp_path)


def test_class_folders_with_names_nobody_knows(tmp_path):
    for name in ("Melanom", "Muttermal"):
        picture(tmp_path / "Bilder" / "2024" / name / "1.png")
    with pytest.raises(DataError) as raised:
        read("lesion_classification", tmp_path)
    assert "if Melanom, Muttermal in Bilder/2024 are classes, say what each means in `labels` in params.yaml" in str(
        raised.value
    )
    reading = read("lesion_classification", tmp_path, labels={"Melanom": "melanoma", "Muttermal": "nevus"})
    assert sorted(sample.label for sample in reading.samples) == ["melanoma", "nevus"]


def test_grades_as_folders(tmp_path):
    for grade in "012":
        picture(tmp_path / grade / f"eye{grade}.png")
    with pytest.raises(DataError, match="if 0, 1, 2 are classes, say what each means in `labels`"):
        read("retinal_findings", tmp_path)


def test_images_without_any_list_or_still_packed(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"set\.zip is still packed: unpack it"):
        read("lesion_classification", tmp_path)
    picture(tmp_path / "photos" / "1.png")
    with pytest.raises(DataError, match=r"no list names photos/1\.png and its label: write labels\.csv"):
        read("lesion_classification", tmp_path)


@pytest.mark.parametrize("column", ["set", "partition"])
def test_a_split_column_of_another_name_counts(tmp_path, column):
    """A third of the images was the publisher's test set, and the split was drawn anew without a word."""
    rows = [(f"{k}.png", KINDS[k % 3], ("Training", "dev", "Testing")[k // 3]) for k in range(9)]
    for name, *_ in rows:
        picture(tmp_path / name)
    table(tmp_path / "labels.csv", ("filename", "label", column), rows)
    assert [s.split for s in read("lesion_classification", tmp_path).samples] == (
        ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
    )
    # a column of that name that says something else is no split
    table(tmp_path / "labels.csv", ("filename", "label", column), [(*row[:2], k) for k, row in enumerate(rows)])
    assert {s.split for s in read("lesion_classification", tmp_path).samples} == {""}


def test_lists_named_after_their_split_and_in_a_folder_of_their_own(tmp_path):
    for split in ("train", "val", "test"):
        for k in range(3):
            picture(tmp_path / "images" / f"{split}{k}.png")
        rows = [(f"{split}{k}", KINDS[k]) for k in range(3)]
        table(tmp_path / "lists" / f"{split}_labels.csv", ("filename", "label"), rows)
    reading = read("lesion_classification", tmp_path)
    assert not reading.problems
    assert {s.id[:4]: s.split for s in reading.samples} == {"trai": "train", "val0": "validation",
        "val1": "validation", "val2": "validation", "test": "test"}  # fmt: skip
    assert {s.listed_in for s in reading.samples if s.split == "test"} == {"lists/test_labels.csv"}


def test_a_folder_of_lists_beside_whole_data_sets_claims_nothing(tmp_path):
    listed(tmp_path / "clinic", "abc")
    table(tmp_path / "old" / "labels.csv", ("filename", "label"), [("gone.png", "nevus")])
    reading = read("lesion_classification", tmp_path)
    assert {s.source for s in reading.samples} == {"clinic"}


def test_a_dev_folder_is_the_validation_split(tmp_path):
    for split in ("TRAIN", "dev", "Test"):
        for kind in KINDS:
            picture(tmp_path / split / kind / f"{split}.png")
    splits = [s.split for s in read("lesion_classification", tmp_path).samples]
    assert sorted(splits) == ["test"] * 3 + ["train"] * 3 + ["validation"] * 3
