"""A mask that went to another picture, or to none, must not be found out by a bad score."""

from __future__ import annotations

import pytest

from derm_ml.data.sources import MASK_LAYOUTS, read_source
from derm_ml.records import DataError
from tests.data.sources import published_sets

IN, OUT = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


def read(root):
    return read_source(root, labels=("lesion",), layouts=MASK_LAYOUTS)


def pairs(reading):
    return {s.id: (s.files["image"], s.files["mask"], s.split) for s in reading.samples}


def test_official_folders_pair_by_id_with_their_splits_and_superpixels_are_neither(lay):
    root = lay(
        {
            "ISIC-2017_Training_Data/ISIC_1.jpg": "",
            "ISIC-2017_Training_Data/ISIC_1_superpixels.png": "",
            "ISIC-2017_Training_Part1_GroundTruth/ISIC_1_segmentation.png": "",
            "ISIC-2017_Test_v2_Data/ISIC_2.jpg": "",
            "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_2_segmentation.png": "",
        }
    )
    reading = read(root)
    assert not reading.problems
    assert pairs(reading) == {
        "ISIC_1": (
            "ISIC-2017_Training_Data/ISIC_1.jpg",
            "ISIC-2017_Training_Part1_GroundTruth/ISIC_1_segmentation.png",
            "train",
        ),
        "ISIC_2": (
            "ISIC-2017_Test_v2_Data/ISIC_2.jpg",
            "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_2_segmentation.png",
            "test",
        ),
    }
    assert all(s.target == {"lesion": 1.0} for s in reading.samples)


def test_a_list_of_splits_wins_and_none_may_go_anywhere(lay):
    root = lay(
        {
            **{f"{IN}/ISIC_{n}.jpg": "" for n in (1, 2, 3)},
            **{f"{OUT}/ISIC_{n}_segmentation.png": "" for n in (1, 2, 3)},
            "isic2017_split.csv": "image_id,isic2017_split\nISIC_1,train\nISIC_2,val\nISIC_3,none\nISIC_9,val\n",
        }
    )
    reading = read(root)
    assert {name: split for name, (_, _, split) in pairs(reading).items()} == {
        "ISIC_1": "train",
        "ISIC_2": "validation",
        "ISIC_3": "",
    }
    assert [(p.file, p.reason) for p in reading.problems] == [
        ("isic2017_split.csv", "image ISIC_9 is listed but not there")
    ]


def test_a_wrong_split_names_file_and_line(lay):
    root = lay({f"{IN}/a.jpg": "", f"{OUT}/a_segmentation.png": "", "split.csv": "image_id,split\na,trian\n"})
    with pytest.raises(DataError, match=r"split\.csv:2: split is 'trian'; write train, val, test or none"):
        read(root)


def test_one_s_own_folders_with_and_without_splits(lay):
    root = lay(
        {
            "mine/images/a.png": "",
            "mine/masks/a.png": "",
            "other/train/Images/b.jpg": "",
            "other/train/Masks/b_mask.png": "",
            "other/val/Images/c.jpg": "",
            "other/val/Masks/c_lesion.bmp": "",
        }
    )
    found = pairs(read(root))
    assert found["a"] == ("mine/images/a.png", "mine/masks/a.png", "")
    assert found["b"] == ("other/train/Images/b.jpg", "other/train/Masks/b_mask.png", "train")
    assert found["c"] == ("other/val/Images/c.jpg", "other/val/Masks/c_lesion.bmp", "validation")


def test_pictures_without_mask_masks_without_picture_and_second_masks_are_problems(lay):
    root = lay(
        {
            "images/a.jpg": "",
            "images/b.jpg": "",
            "masks/b_mask.png": "",
            "masks/b_segmentation.png": "",
            "masks/c.png": "",
            "masks/d.gif": "",
        }
    )
    reading = read(root)
    assert list(pairs(reading)) == ["b"]
    problems = {p.file: p.reason for p in reading.problems}
    assert problems["images/a.jpg"] == "has no mask in masks; add one named like a_segmentation.png"
    assert problems["masks/c.png"] == "has no image in images; add it, or remove the mask"
    assert "second mask" in problems["masks/b_segmentation.png"]
    assert "GIF is no accepted image format" in problems["masks/d.gif"]


def test_an_official_folder_without_its_partner_stops_with_both_names(lay):
    with pytest.raises(DataError, match=f"{IN} is there but {OUT} is not"):
        read(lay({f"{IN}/a.jpg": ""}))


def test_a_folder_that_is_none_says_what_is_expected(lay):
    with pytest.raises(DataError, match="a folder of images beside a folder of masks"):
        read(lay({"pictures/a.jpg": ""}))


def test_the_real_download(shared_data):
    reading = read(shared_data / "isic2018_task1")
    assert len(reading.samples) == 2061
    assert not reading.problems
    splits = [s.split for s in reading.samples]
    assert (splits.count("train"), splits.count("validation"), splits.count("")) == (1797, 120, 144)


def test_pictures_and_masks_in_part_folders_are_all_read(lay):
    """Half of a set that is unpacked into two folders would train as if it were the whole."""
    root = lay(
        {
            "images/a.jpg": "",
            "images/part2/b.jpg": "",
            "images/part2/1.jpg": "",
            "images/part3/1.jpg": "",
            "masks/a.png": "",
            "masks/part2/b.png": "",
            "masks/part2/1.png": "",
            "masks/part3/1.png": "",
        }
    )
    reading = read(root)
    assert not reading.problems
    assert {s.id: s.files["mask"] for s in reading.samples} == {
        "a": "masks/a.png",
        "b": "masks/part2/b.png",
        "images-part2-1": "masks/part2/1.png",
        "images-part3-1": "masks/part3/1.png",
    }


def test_split_folders_below_images_and_masks_are_the_publisher_s_splits(lay):
    files = {f"{kind}/{split}/{split}1.png": "" for kind in ("images", "masks") for split in ("train", "valid", "test")}
    reading = read(lay(files))
    assert {s.id: s.split for s in reading.samples} == {"train1": "train", "valid1": "validation", "test1": "test"}


def test_ham10000_with_its_masks_keeps_lesions_together(tmp_path):
    published_sets.ham10000(tmp_path)
    reading = read(tmp_path)
    assert not reading.problems
    assert len(reading.samples) == 7
    assert len({s.lesion for s in reading.samples}) == 4
    assert reading.samples[0].attributes == {"age": 50.0, "sex": "male", "site": "back"}


def test_ph2_pairs_a_case_s_image_with_its_lesion_alone(tmp_path):
    published_sets.ph2(tmp_path)
    reading = read(tmp_path)
    assert not reading.problems
    assert {s.id: s.files["mask"].rpartition("/")[2] for s in reading.samples} == {
        f"IMD{k:03d}": f"IMD{k:03d}_lesion.bmp" for k in range(4)
    }


def test_isic_2016_part_1(lay):
    root = lay(
        {
            "ISBI2016_ISIC_Part1_Training_Data/ISIC_1.jpg": "",
            "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_1_Segmentation.png": "",
            "ISBI2016_ISIC_Part1_Test_Data/ISIC_2.jpg": "",
            "ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_2_Segmentation.png": "",
        }
    )
    assert {s.id: s.split for s in read(root).samples} == {"ISIC_1": "train", "ISIC_2": "test"}
