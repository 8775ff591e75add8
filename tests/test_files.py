"""A folder somebody else filled: what is in it is named by its kind, and nothing of it is opened that could do harm."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from derm_ml.files import (
    NotAFile,
    UmaskError,
    files_below,
    folder_md5,
    open_plain,
    private_by_default,
    replacing_file,
    replacing_folder,
    write_json,
)


@pytest.fixture
def delivery(tmp_path) -> Path:
    """A folder with one of everything, beside a file that is not of it."""
    root = tmp_path / "delivery"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"of another study")
    for name in ("b.png", "a.png", "deep/c.png", ".hidden.png"):
        (root / name).write_bytes(name.encode())
    return root


def reasons(root: Path, **how) -> dict[str, str]:
    return {problem.file: problem.reason for problem in files_below(root, **how).odd}


def test_files_come_in_the_order_of_their_parts_and_hidden_ones_are_the_systems(delivery):
    (delivery / "__MACOSX").mkdir()
    (delivery / "__MACOSX" / "._a.png").write_bytes(b"x")
    tree = files_below(delivery)
    assert tree.files() == ["a.png", "b.png", "deep/c.png"]
    assert tree.files(deep=False) == ["a.png", "b.png"]
    assert tree.files("deep") == ["deep/c.png"]
    assert tree.at("deep").files() == ["c.png"]
    assert tree.folders() == ["deep"]
    assert tree.has_file("deep/c.png")
    assert not tree.has_file("deep")
    assert not tree.has_file("deep/../a.png")
    assert ".hidden.png" in files_below(delivery, hidden=True).files()


def test_a_link_out_of_the_folder_is_named_and_read_only_where_it_is_allowed(delivery):
    """Images of another study entered a dataset, and /etc/passwd was copied into the raw folder."""
    (delivery / "x.png").symlink_to(delivery.parent / "outside" / "secret.png")
    (delivery / "labels.csv").symlink_to("/etc/passwd")
    (delivery / "more").symlink_to(delivery.parent / "outside")
    tree = files_below(delivery)
    assert [p.file for p in tree.odd] == ["labels.csv", "more", "x.png"]
    assert all("leaves the folder" in p.reason for p in tree.odd)
    assert tree.files() == ["a.png", "b.png", "deep/c.png"]
    allowed = files_below(delivery, links="all")
    assert {"x.png", "labels.csv", "more/secret.png"} <= set(allowed.files())
    assert not allowed.odd


def test_a_link_to_a_file_of_the_folder_is_a_file_of_it_but_never_of_a_bundle(delivery):
    (delivery / "d.png").symlink_to("a.png")
    assert "d.png" in files_below(delivery).files()
    assert "is a link" in reasons(delivery, links="none")["d.png"]


@pytest.mark.parametrize("links", ["none", "inside", "all"])
def test_links_in_a_circle_do_not_hang(delivery, links):
    """`a → .` and `b → .` beside each other are 2ⁿ paths of length n."""
    for name in ("u", "v"):
        (delivery / name).symlink_to(".")
        (delivery / "deep" / name).symlink_to("..")
    (delivery / "loop").symlink_to("loop")
    tree = files_below(delivery, links=links)
    assert tree.files() == ["a.png", "b.png", "deep/c.png"]
    assert [p.file for p in tree.odd] == ["deep/u", "deep/v", "loop", "u", "v"]


def test_a_linked_folder_is_entered_once(delivery):
    for name in ("first", "second"):
        (delivery / name).symlink_to(delivery.parent / "outside")
    tree = files_below(delivery, links="all")
    assert "first/secret.png" in tree.files()
    assert [(p.file, "'first'" in p.reason) for p in tree.odd] == [("second", True)]


def test_pipes_sockets_and_broken_links_are_named_and_not_opened(delivery):
    os.mkfifo(delivery / "pipe.png")
    (delivery / "gone.png").symlink_to("nowhere.png")
    (delivery / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(delivery / "socket.png"))
        found = reasons(delivery, links="all")
    assert found.keys() == {"pipe.png", "gone.png", "zero.png", "socket.png"}
    assert "named pipe" in found["pipe.png"]
    assert "leads nowhere" in found["gone.png"]
    assert "a link to a device" in found["zero.png"]
    assert "socket" in found["socket.png"]


def test_a_name_that_is_no_utf_8_is_named_and_the_rest_goes_on(delivery):
    Path(os.fsdecode(os.fsencode(delivery) + b"/caf\xe9.png")).write_bytes(b"x")
    tree = files_below(delivery)
    assert tree.files() == ["a.png", "b.png", "deep/c.png"]
    (problem,) = tree.odd
    assert problem.file == "caf\\xe9.png"
    assert "not UTF-8" in problem.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_that_cannot_be_opened_is_named(delivery):
    (delivery / "deep").chmod(0)
    assert "cannot be opened" in reasons(delivery)["deep"]


def test_a_walk_asks_each_entry_once(delivery, monkeypatch):
    """Asked again for each row of a list, a folder of 400,000 images takes hours."""
    for k in range(50):
        (delivery / f"{k}.png").write_bytes(b"x")
    tree = files_below(delivery)
    monkeypatch.setattr(os, "scandir", None)
    monkeypatch.setattr(os, "stat", None)
    assert len(tree.files()) == 53
    assert tree.has_file("7.png")
    assert not tree.has_file("70.png")


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


def test_the_hash_of_a_delivery_does_not_read_what_is_not_in_it(delivery):
    before = folder_md5(delivery)
    (delivery / "labels.csv").symlink_to("/etc/passwd")
    os.mkfifo(delivery / "pipe")
    assert folder_md5(delivery) == before
