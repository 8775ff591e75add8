"""A folder somebody else filled: what is in it is named by its kind, and nothing of it is opened that could do harm."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from derm_ml.tree import files_below, folder_md5


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


def test_the_hash_of_a_delivery_does_not_read_what_is_not_in_it(delivery):
    before = folder_md5(delivery)
    (delivery / "labels.csv").symlink_to("/etc/passwd")
    os.mkfifo(delivery / "pipe")
    assert folder_md5(delivery) == before
