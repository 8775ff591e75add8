"""What is an image and what is not: a sidecar is no lost image, a camera's raw file is one."""

from __future__ import annotations

import pytest

from derm_ml.images.kinds import what_is

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(200)
NAMED = {
    "a.jpg": "image", "b.TIF": "image", "c.HEIC": "image", "d.dcm": "image", "e.jp2": "other_image",
    "f.CR2": "other_image", "g.dng": "other_image", "h.gif": "other_image", "i.nii.gz": "other_image",
    "IMG_1.AAE": "no_image", "x.xmp": "no_image", "images.zip": "no_image", "notes.ipynb": "no_image",
    "list.xlsx": "no_image", "Thumbs.db": "no_image", "clip.MOV": "no_image",
}  # fmt: skip
BYTES = {
    b"\xff\xd8\xff\xe0" + bytes(200): ("image", "JPEG"),
    HEIC: ("image", "HEIF"),
    bytes(128) + b"DICM": ("image", "DICOM"),
    b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200): ("other_image", "JPEG 2000"),
    b"BMI and weight of the patients\n" * 9: ("no_image", "no image"),
    b"": ("no_image", "no image"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_known_ending_says_it_without_opening_the_file(name, tmp_path):
    assert what_is(tmp_path / name).is_a == NAMED[name]


@pytest.mark.parametrize("data", BYTES, ids=[what or "none" for _, what in BYTES.values()])
@pytest.mark.parametrize("name", ["IM000001", "scan.0001"])
def test_a_name_that_says_nothing_is_told_by_its_bytes(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    found = what_is(tmp_path / name)
    assert (found.is_a, found.what) == BYTES[data]
