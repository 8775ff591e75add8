"""No file of a raw folder is passed over: it is read, quarantined, set aside by name, no image, or it stops reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from derm_ml.data.sources import MASK_LAYOUTS, read_source
from derm_ml.records import DataError, Reading
from derm_ml.tree import files_below

LABELS = ("melanoma", "nevus", "seborrheic_keratosis")
ISIC = {
    "ISIC-2017_Training_Data/ISIC_0000000.jpg": "",
    "ISIC-2017_Training_Part3_GroundTruth.csv": "image_id,melanoma,seborrheic_keratosis\nISIC_0000000,1,0\n",
}
HAM = {
    "HAM10000_images_part_1/ISIC_0027419.jpg": "",
    "HAM10000_images_part_1/ISIC_0027420.jpg": "",
    "HAM10000_metadata.csv": "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    "HAM_1,ISIC_0027419,nv,histo,50,male,back\nHAM_2,ISIC_0027420,bcc,histo,50,male,back\n",
}
OWN = {"my_clinic/nevus/own.jpg": "", "my_clinic/melanoma/own2.jpg": ""}


def read(root: Path, **how) -> Reading:
    return read_source(root, labels=LABELS, **how)


def fates(reading: Reading) -> dict[str, str]:
    """Every file → what became of it; a file with two fates would be counted twice in the account."""
    found: dict[str, str] = {}
    for fate, files in {
        "read": [file for sample in reading.samples for file in sample.files.values()],
        "quarantined": [problem.file for problem in reading.problems if not problem.row],
        "set aside": reading.set_aside,
        "no image": reading.no_images,
    }.items():
        for file in files:
            assert file not in found, (file, fate, found[file])
            found[file] = fate
    return found


def test_data_sets_unpacked_into_one_folder_are_all_read(lay):
    """30 of 51 images were read, the others not mentioned."""
    root = lay({**ISIC, **HAM, **OWN, "labels.csv": "filename,label\nlisted/x.jpg,nevus\n", "listed/x.jpg": ""})
    reading = read(root)
    assert {s.files["image"].split("/")[0]: s.source for s in reading.samples} == {
        "ISIC-2017_Training_Data": "isic2017",
        "HAM10000_images_part_1": "ham10000",
        "my_clinic": "my_clinic",
        "listed": "csv_list",
    }
    assert not reading.problems
    assert reading.left_out == {"bcc": 1}
    assert {o.source: dict(o.left_out) for o in reading.origins}["ham10000"] == {"bcc": 1}


@pytest.mark.parametrize("doubled", [False, True])
def test_every_file_has_one_fate(lay, doubled):
    inner = "HAM10000_images_part_1/HAM10000_images_part_1" if doubled else "HAM10000_images_part_1"
    files = {
        **ISIC,
        **{name.replace("HAM10000_images_part_1", inner): content for name, content in HAM.items()},
        "HAM10000_images_part_1/IMG_1.HEIC": "",
        "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png": "",
        "ISIC-2017_Training_Data/ISIC_0000001.jpg": "",
        "notes/readme.txt": "",
        "images.zip": "",
        "IMG_1.AAE": "",
        "Thumbs.db": "",
    }
    root = lay({**files, ".DS_Store": "", "__MACOSX/._a.jpg": "", "._a.jpg": ""})
    reading = read(root)
    found = fates(reading)
    assert found.keys() == {*files_below(root).files(), ".DS_Store", "__MACOSX", "._a.jpg"}
    told = {name: fate for name, fate in found.items() if fate != "read" and not name.endswith(".csv")}
    assert told == {
        f"{inner}/ISIC_0027420.jpg": "set aside",  # bcc
        "HAM10000_images_part_1/IMG_1.HEIC": "quarantined",
        "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png": "set aside",
        "ISIC-2017_Training_Data/ISIC_0000001.jpg": "quarantined",  # not in the list
        "notes/readme.txt": "no image",
        "images.zip": "no image",
        "IMG_1.AAE": "no image",
        "Thumbs.db": "no image",
        ".DS_Store": "no image",
        "__MACOSX": "no image",
        "._a.jpg": "no image",
    }


def test_an_image_no_layout_claims_stops_reading_and_is_named_with_its_folder(lay):
    root = lay({**ISIC, "old/a.jpg": "", "old/b.jpg": "", "old/deep/c.png": ""})
    with pytest.raises(DataError, match=r"3 images in old \(2, e\.g\. a\.jpg\), old/deep \(1, e\.g\. c\.png\)"):
        read(root)
    reading = read(root, not_read=["old"])
    assert {file for file, why in reading.set_aside.items() if "not_read names old" in why} == {
        "old/a.jpg",
        "old/b.jpg",
        "old/deep/c.png",
    }
    assert len(reading.samples) == 1


@pytest.mark.parametrize("pattern", ["old", "old/deep", "*/deep", "old/*/c.png"])
def test_what_is_left_out_is_named_by_path_or_pattern_and_one_that_is_not_there_is_said(lay, pattern):
    reading = read(lay({**ISIC, "old/deep/c.png": ""}), not_read=[pattern, "gone"])
    assert list(reading.set_aside) == ["old/deep/c.png"]
    assert reading.unmatched == {"not_read": ("gone",)}


def test_pairs_in_folders_beside_read_ones_are_not_lost(lay):
    """8 of 16 pairs were read, the others dropped without a word."""
    root = lay({"images/a.jpg": "", "masks/a.png": "", "more/images_2/b.jpg": "", "more/masks_2/b.png": ""})
    with pytest.raises(DataError, match=r"2 images in more/images_2 .*, more/masks_2 "):
        read_source(root, labels=("lesion",), layouts=MASK_LAYOUTS)


def test_an_image_left_out_of_its_list_is_no_data_set_of_its_own(lay):
    """Whoever leaves an image out of a list means it; its folder's name is then no label."""
    root = lay(
        {"labels.csv": "filename,label\nnevus/a.jpg,melanoma\n", "nevus/a.jpg": "", "nevus/b.jpg": "", "c.jpg": ""}
    )
    reading = read(root)
    assert [(s.files["image"], s.label) for s in reading.samples] == [("nevus/a.jpg", "melanoma")]
    assert sorted(p.file for p in reading.problems) == ["c.jpg", "nevus/b.jpg"]


def test_a_list_that_names_no_labels_is_beside_class_folders_and_is_said_to_be_unread(lay):
    root = lay({"metadata.csv": "isic_id,sex\nx,male\n", "nevus/x.jpg": "", "melanoma/y.jpg": ""})
    reading = read(root)
    assert {s.label for s in reading.samples} == {"nevus", "melanoma"}
    assert reading.no_images["metadata.csv"] == "a list that was not read"


def test_columns_that_are_used_and_those_that_are_not_are_known(lay):
    listed = {x.file: (x.used, x.unused) for x in read(lay(HAM)).lists}
    used, unused = listed["HAM10000_metadata.csv"]
    assert set(used) >= {"image_id", "dx", "lesion_id", "age", "sex", "localization"}
    assert unused == ("dx_type",)


def test_as_many_steps_as_there_are_files(lay, monkeypatch):
    """Data sets beside each other are tried again and again; each file is looked at a few times, not once a set."""
    sets = {f"set_{k:02d}/{label}/{k}_{label}.jpg": "" for k in range(40) for label in LABELS}
    root = lay({**ISIC, **sets})
    from derm_ml.data.sources import every_file

    looked = 0
    plain = every_file.is_image

    def counted(name: str) -> bool:
        nonlocal looked
        looked += 1
        return plain(name)

    monkeypatch.setattr(every_file, "is_image", counted)
    assert len(read(root).samples) == 121
    assert looked < 6 * 121
