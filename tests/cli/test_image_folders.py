"""A folder named on the command line: every image in it, nothing else, and what is left out has a reason."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from derm_ml.cli.arguments import pictures


@pytest.fixture
def image(tmp_path) -> bytes:
    return cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()


def asked(*paths: Path) -> dict[str, str]:
    """Name of each entry → "read", or the sentence why not."""
    return {path.name: said if isinstance(said, str) else "read" for path, said in pictures(list(paths))}


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
