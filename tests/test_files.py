"""Files: what is written is whole, private and named as long as a disk allows; what is read is a regular file."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from derm_ml.files import (
    NotAFile,
    UmaskError,
    open_plain,
    private_by_default,
    replacing_file,
    replacing_folder,
    write_json,
)


def test_a_pipe_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFile, match="a named pipe, not a file"):
        open_plain(tmp_path / "pipe")
    with pytest.raises(NotAFile, match="a folder"):
        open_plain(tmp_path)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(NotAFile, match="a link"):
        open_plain(tmp_path / "link", follow_links=False)


def test_a_file_that_became_a_link_behind_ones_back_is_not_followed(tmp_path):
    """Who may write into the folder swaps the file between the look and the copy."""
    target, swapped = tmp_path / "a.png", threading.Event()
    (tmp_path / "secret").write_bytes(b"secret")

    def swap() -> None:
        while not swapped.is_set():
            (tmp_path / "new").write_bytes(b"mine")
            (tmp_path / "new").rename(target)
            (tmp_path / "link").symlink_to(tmp_path / "secret")
            (tmp_path / "link").rename(target)

    (tmp_path / "a.png").write_bytes(b"mine")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            try:
                with open_plain(target, follow_links=False) as file:
                    assert file.read() != b"secret"
            except OSError:
                continue
    finally:
        swapped.set()
        thread.join()


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "皮" * 85, "𝒜" * 63])
def test_a_name_as_long_as_a_disk_allows_is_written(tmp_path, name):
    """255 bytes are allowed: the temporary name beside it may not be longer."""
    write_json(tmp_path / name, {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("chosen", "file", "folder"), [("", 0o600, 0o700), ("027", 0o640, 0o750), ("0022", 0o644, 0o755)]
)
def test_what_is_written_is_its_owners_unless_the_operator_says_otherwise(tmp_path, monkeypatch, chosen, file, folder):
    """940 of 945 files of a home could be read by everybody on the machine."""
    before = os.umask(0o022)
    monkeypatch.setenv("DERM_UMASK", chosen)
    try:
        private_by_default()
        write_json(tmp_path / "new" / "a.json", {})
        with replacing_folder(tmp_path / "b") as made:
            (made / "x").touch()
        with replacing_file(tmp_path / "c") as made:
            made.write_text("x")
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert modes == {"new": folder, "a.json": file, "b": folder, "x": file, "c": file}


@pytest.mark.parametrize("wrong", ["rwx", "9", "1000", "0o77", "700", "٠٧٧"])
def test_a_umask_that_is_none_is_a_sentence(monkeypatch, wrong):
    monkeypatch.setenv("DERM_UMASK", wrong)
    with pytest.raises(UmaskError, match="DERM_UMASK is"):
        private_by_default()
