"""A folder named on the command line: every image in it, nothing else, and what is left out has a reason."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from derm_ml import DermError
from derm_ml.cli.arguments import asked_images, options_from_flags


@pytest.fixture
def image(tmp_path) -> bytes:
    return cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()


def asked(*paths: Path) -> dict[str, str]:
    """Name of each entry → "read", or the sentence why not."""
    return {path.name: said if isinstance(said, str) else "read" for path, said in asked_images(list(paths))}


def test_only_what_is_an_image_of_the_folder_is_read(tmp_path, image):
    """A stick from a Mac was answered with an error, a pipe was waited for, a link showed a foreign image."""
    folder = tmp_path / "photos"
    (folder / "__MACOSX").mkdir(parents=True)
    (folder / "deep").mkdir()
    for name in ("a.png", "deep/b.png"):
        (folder / name).write_bytes(image)
    for name in ("._a.png", "__MACOSX/._a.png", ".DS_Store", "notes.txt"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "other.png").write_bytes(image)
    (folder / "other.png").symlink_to(tmp_path / "other.png")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.png")
    said = asked(folder)
    assert {name for name, what in said.items() if what == "read"} == {"a.png", "b.png"}
    assert said.keys() == {"a.png", "b.png", "other.png", "up", "pipe.png"}
    assert "leaves the folder" in said["other.png"]
    assert "named pipe" in said["pipe.png"]


def test_a_file_named_by_its_user_may_be_a_link_but_no_pipe(tmp_path, image):
    (tmp_path / "a.png").write_bytes(image)
    (tmp_path / "link.png").symlink_to("a.png")
    os.mkfifo(tmp_path / "pipe.png")
    said = asked(tmp_path / "link.png", tmp_path / "pipe.png", tmp_path / "gone.png")
    assert said["link.png"] == "read"
    assert "named pipe" in said["pipe.png"]
    assert "no such file" in said["gone.png"]


def test_images_of_other_formats_are_said_and_files_that_are_none_are_named(tmp_path, image, capfd):
    """A folder of one JPEG and five HEIC photos gave one answer and no word; the first two formats need an extra."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(image)
    for name in ("b.HEIC", "c.dcm", "d.jp2", "e.CR2", "list.csv", "f.AAE", "._g.png"):
        (folder / name).write_bytes(b"x")
    (folder / "b.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(200))
    (folder / "c.dcm").write_bytes(bytes(128) + b"DICM" + bytes(20))
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM")
    said = asked(folder)
    assert said["a.png"] == "read"
    told = {"b.HEIC": "HEI", "c.dcm": "DICOM", "IM0001": "DICOM", "d.jp2": "JPEG 2000 is", "e.CR2": "camera raw is"}
    assert said.keys() == {"a.png", *told}
    assert all(what in said[name] for name, what in told.items()), said
    err = " ".join(capfd.readouterr().err.split())
    assert all(name in err for name in ("list.csv", "f.AAE", "._g.png"))
    assert asked(folder / "d.jp2")["d.jp2"].startswith("JPEG 2000 is no accepted")


def test_facts_that_name_none_of_the_images_are_refused(tmp_path, image):
    (tmp_path / "a.png").write_bytes(image)
    facts = tmp_path / "facts.csv"
    facts.write_text("isic_id,age_approx,sex\nISIC_1,50,male\n")
    with pytest.raises(DermError, match=r"names none of these images: it has 'ISIC_1'.* called 'a'"):
        options_from_flags("", "", facts, [tmp_path])
    facts.write_text("isic_id,age_approx,sex\na,50,male\n")
    assert options_from_flags("", "", facts, [tmp_path])(tmp_path / "a.png") == {"age": "50.0", "sex": "male"}
