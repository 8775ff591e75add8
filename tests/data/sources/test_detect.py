"""A user points at a folder; what it is must be recognised, or the message must say what would be."""

from __future__ import annotations

import pytest

from derm_ml.data.sources import LAYOUTS, read_source
from derm_ml.data.sources.split_names import folder_split
from derm_ml.records import DataError

LABELS = ("melanoma", "nevus")
BATCH = {"labels.csv": "filename,label\na.jpg,nevus\n", "a.jpg": ""}


def below(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": content for name, content in files.items()}


def test_several_sources_are_joined_and_named_by_their_path(lay):
    root = lay(
        {
            **below("batches/2026-01", BATCH),
            **below("batches/2026-02", BATCH),
            **below("folders", {"melanoma/m.jpg": ""}),
            ".cache/x.jpg": "",
            "notes/readme.txt": "",
        }
    )
    reading = read_source(root, labels=LABELS)
    assert [(s.id, s.source, s.files["image"]) for s in reading.samples] == [
        ("m", "folders", "folders/melanoma/m.jpg"),  # deliveries come after what was there before
        ("a", "batches/2026-01", "batches/2026-01/a.jpg"),
        ("batches-2026-02:a", "batches/2026-02", "batches/2026-02/a.jpg"),
    ]


def test_problems_and_left_out_are_joined_too(lay):
    root = lay(
        {
            **below("one", {**BATCH, "stray.jpg": "", "w.jpg": ""}),
            "one/labels.csv": "filename,label\na.jpg,nevus\nw.jpg,wart\n",
            **below("two", {"labels.csv": "filename,label\nw.jpg,Wart\n", "w.jpg": ""}),
        }
    )
    reading = read_source(root, labels=LABELS, label_map={"wart": None})
    assert [p.file for p in reading.problems] == ["one/stray.jpg"]
    assert reading.left_out == {"wart": 1, "Wart": 1}


def test_licence_comes_from_source_json(lay):
    """Whoever trains on non-commercial images must find that in the manifest."""
    root = lay({**below("one", BATCH), "one/source.json": '{"licence": "CC-BY-NC-4.0"}', **below("two", BATCH)})
    assert [s.licence for s in read_source(root, labels=LABELS).samples] == ["CC-BY-NC-4.0", "unknown"]


@pytest.mark.parametrize("content", ["{}", "[]", '{"licence": 7}', '"CC-0"'])
def test_source_json_without_licence_is_refused(lay, content):
    with pytest.raises(DataError, match=r"source\.json: no licence can be read"):
        read_source(lay({**BATCH, "source.json": content}), labels=LABELS)


def test_unknown_layout_says_what_is_expected(lay):
    with pytest.raises(DataError, match=r"not recognised.*labels\.csv.*\(melanoma, nevus\)"):
        read_source(lay({"holiday/beach.jpg": ""}), labels=LABELS)


def test_images_beside_sources_are_not_lost(lay):
    with pytest.raises(DataError, match=r"of no recognised data set: 1 image in \. \(1, e\.g\. stray\.jpg\)"):
        read_source(lay({**below("one", BATCH), "stray.jpg": ""}), labels=LABELS)


def test_a_folder_of_images_beside_sources_is_not_lost(lay):
    with pytest.raises(
        DataError, match=r"of no recognised data set: 1 image in holiday \(1, e\.g\. beach\.jpg\).*not_read"
    ):
        read_source(lay({**below("one", BATCH), "holiday/beach.jpg": ""}), labels=LABELS)


def test_missing_folder_and_unknown_layout_name(lay, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_source(tmp_path / "nowhere", labels=LABELS)
    with pytest.raises(DataError, match="known: auto, isic2017"):
        read_source(lay(BATCH), "isic1999", labels=LABELS)


def test_a_named_layout_is_used_as_said(lay):
    root = lay({**BATCH, "melanoma/m.jpg": ""})
    assert [s.id for s in read_source(root, "class_folders", labels=LABELS).samples] == ["m"]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_of_an_empty_folder_is_a_clear_error(layout, lay):
    with pytest.raises(DataError):
        read_source(lay({}), layout, labels=LABELS)


def test_folders_called_train_and_test_above_lists_are_splits(lay):
    """Half of the publisher's test images trained the model, and every check was green."""
    lists = {f"{part}/labels.csv": f"filename,label\n{part}1.jpg,nevus\n" for part in ("train", "test")}
    files = {**lists, "train/images/train1.jpg": "", "test/images/test1.jpg": ""}
    assert {s.id: s.split for s in read_source(lay(files), labels=LABELS).samples} == {
        "train1": "train",
        "test1": "test",
    }


def test_a_lone_train_folder_is_no_split(lay):
    files = {"train/labels.csv": "filename,label\na.jpg,nevus\n", "train/a.jpg": ""}
    assert [s.split for s in read_source(lay(files), labels=LABELS).samples] == [""]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training_Set", "train"),
        ("train2017", "train"),
        ("a. Training Set", "train"),
        ("val_images", "validation"),
        ("Testing", "test"),
        ("images_test", "test"),
        ("trainees", ""),
        ("patient_test_results", ""),
        ("validity", ""),
    ],
)
def test_which_folders_are_splits(name, split):
    assert folder_split(name) == split
