"""Downloads of gigabytes fail, change and lie: against a local server, each ends in a whole data set or none."""

from __future__ import annotations

import bz2
import functools
import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derm_ml.data.catalogue import Entry, File, catalogue, catalogue_lines
from derm_ml.data.fetch import Downloader, fetch_data_set
from derm_ml.data.sources import read_source
from derm_ml.data.sources.published import layouts
from derm_ml.records import DataError

LABELS = ("melanoma", "nevus")
RESUMED = f"bytes={2**16}-"  # cut after 100,000 bytes: whole blocks are kept
FAST = Downloader(attempts=3, pause=0.0, progress=False)


@dataclass
class Shelf:
    """What the server offers, how it misbehaves, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # hang up after so many bytes, once for each entry
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range header


class Handler(BaseHTTPRequestHandler):
    """Static files with ETag, Range and If-Range, that hangs up when told to."""

    def __init__(self, shelf: Shelf, *args) -> None:
        self.shelf = shelf
        super().__init__(*args)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.shelf.asked.append((self.path, wanted))
        body = self.shelf.files.get(self.path.split("?")[0])
        if body is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start = 0
        if wanted and self.shelf.ranges and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + self.shelf.cut_after.pop(0) if self.shelf.cut_after else None
        self.wfile.write(body[start:end])

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    content = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, content))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    content.address = f"http://127.0.0.1:{server.server_port}"
    yield content
    server.shutdown()
    server.server_close()
    thread.join()


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for name, content in files.items():
            pack.writestr(name, content)
    return buffer.getvalue()


GOOD_ZIP = zipped({"a.png": picture(1), "b.png": picture(2), "b_superpixels.png": picture(3), "__MACOSX/._a.png": b"x"})


@pytest.fixture
def fetch(shelf, tmp_path) -> Callable[[], Path]:
    """Fetch the small data set `tiny`: a list, and a ZIP of two pictures unpacked into `images`."""
    shelf.files = {"/list/7": b"filename,label\na.png,nevus\nb.png,melanoma\n", "/tiny.zip": GOOD_ZIP}
    entry = Entry.model_validate(
        {
            "name": "tiny", "title": "Tiny", "task": "lesion_classification", "layout": "csv_list", "images": 2,
            "gigabytes": 0.001, "size_from": "counted", "licence": "CC0-1.0", "terms": "Free.",
            "citation": "Nobody 2026.", "homepage": "-",
            "files": [
                {"url": f"{shelf.address}/list/7?format=original", "name": "labels.csv"},
                {"url": f"{shelf.address}/tiny.zip", "into": "images"},
            ],
        }
    )  # fmt: skip
    said: list[str] = []

    def go() -> Path:
        return fetch_data_set(
            "tiny", tmp_path / "raw", said.append, entries={"tiny": entry}, pins=tmp_path / "pins.json", downloader=FAST
        )

    go.said = said
    return go


def test_the_result_is_what_the_source_reader_reads(fetch, tmp_path):
    folder = fetch()
    assert folder == tmp_path / "raw" / "lesion_classification" / "tiny"
    reading = read_source(folder.parent, labels=LABELS)
    assert [(s.id, s.label, s.licence, s.source) for s in reading.samples] == [
        ("a", "nevus", "CC0-1.0", "tiny"),
        ("b", "melanoma", "CC0-1.0", "tiny"),
    ]
    assert "Nobody 2026." in (folder / "LICENCE.txt").read_text()
    assert (
        json.loads((folder / "source.json").read_text())["sha256"]["tiny.zip"] == hashlib.sha256(GOOD_ZIP).hexdigest()
    )
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]  # no temporary folder, no archive is left


def test_the_licence_is_shown_before_anything_is_downloaded(fetch, shelf):
    shelf.files.clear()
    with pytest.raises(DataError):
        fetch()
    assert "licence: CC0-1.0. Free." in fetch.said[0]


def test_an_interrupted_download_goes_on_where_it_stopped(fetch, shelf):
    shelf.cut_after = [10**9, 100_000]  # the list whole, the archive cut
    fetch()
    assert [wanted for path, wanted in shelf.asked if path == "/tiny.zip"] == ["", RESUMED]


def test_it_goes_on_in_the_next_run_too(fetch, shelf):
    """A laptop is closed; the next day must not start from nothing."""
    shelf.cut_after = [10**9, 100_000, 0, 0]
    with pytest.raises(DataError, match="run the same command again to resume"):
        fetch()
    assert "/list/7" in shelf.asked[0][0]
    shelf.asked.clear()
    fetch()
    assert shelf.asked == [("/tiny.zip", RESUMED)]  # the list is not fetched again


def test_parts_of_two_versions_are_never_joined(fetch, shelf):
    shelf.cut_after = [10**9, 100_000, 0, 0]
    with pytest.raises(DataError, match="resume"):
        fetch()
    shelf.files["/tiny.zip"] = zipped({"a.png": picture(8), "b.png": picture(9)})
    folder = fetch()
    assert (folder / "images" / "a.png").read_bytes() == picture(8)


def test_a_server_without_ranges_starts_over(fetch, shelf):
    shelf.ranges = False
    shelf.cut_after = [10**9, 100_000]
    assert (fetch() / "images" / "b.png").read_bytes() == picture(2)


def test_a_part_larger_than_the_file_is_thrown_away(fetch, shelf, tmp_path):
    downloads = tmp_path / "raw" / "lesion_classification" / ".tiny.downloads"
    downloads.mkdir(parents=True)
    (downloads / "tiny.zip.part").write_bytes(GOOD_ZIP + b"more")
    (downloads / "tiny.zip.part.version").write_text(f'"{hashlib.md5(GOOD_ZIP).hexdigest()}"')
    assert (fetch() / "images" / "b.png").read_bytes() == picture(2)


def test_checksums_are_pinned_at_first_use_and_held_afterwards(fetch, shelf, tmp_path):
    """A file replaced at the publisher, or on the way, must not change a data set unnoticed."""
    folder = fetch()
    pins = json.loads((tmp_path / "pins.json").read_text())
    assert pins["tiny/tiny.zip"] == f"sha256:{hashlib.sha256(GOOD_ZIP).hexdigest()}"
    assert set(pins) == {"tiny/labels.csv", "tiny/tiny.zip"}
    folder.rename(tmp_path / "old")
    shelf.files["/tiny.zip"] = zipped({"a.png": picture(8), "b.png": picture(9)})
    with pytest.raises(DataError, match=r"tiny\.zip is not the file that was pinned .*remove 'tiny/tiny\.zip'"):
        fetch()
    assert not folder.exists()
    assert json.loads((tmp_path / "pins.json").read_text()) == pins


def test_a_complete_data_set_is_left_alone(fetch, shelf):
    folder = fetch()
    shelf.asked.clear()
    assert fetch() == folder
    assert shelf.asked == []


def test_a_folder_of_someone_else_is_not_overwritten(fetch, tmp_path):
    mine = tmp_path / "raw" / "lesion_classification" / "tiny" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match="was not written by fetch"):
        fetch()
    assert mine.read_bytes() == b"mine"


def link_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = 0o120777 << 16
        pack.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def damaged_zip() -> bytes:
    data = bytearray(GOOD_ZIP)
    data[200] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (zipped({"../../evil.png": b"x"}), "unsafe name '../../evil.png'"),
        (zipped({"/evil.png": b"x"}), "unsafe name '/evil.png'"),
        (zipped({"C:\\evil.png": b"x"}), "unsafe name"),
        (link_zip(), "unsafe name 'a.png'"),
        (damaged_zip(), "is damaged"),
        (b"<html>please log in</html>", "is damaged"),
        (zipped({"a.png": picture(1)}), "holds 1 images, 2 are expected"),
    ],
)
def test_a_bad_archive_leaves_nothing(fetch, shelf, tmp_path, archive, message):
    shelf.files["/tiny.zip"] = archive
    with pytest.raises(DataError, match=message):
        fetch()
    assert [p.name for p in (tmp_path / "raw" / "lesion_classification").iterdir()] == [".tiny.downloads"]
    assert not list(tmp_path.rglob("evil*"))


def test_a_file_compressed_by_bzip2_is_unpacked_or_called_damaged(fetch, shelf, tmp_path):
    entry = catalogue()["dlib_recognition"].model_copy(update={"files": (File(url=f"{shelf.address}/net.dat.bz2"),)})
    shelf.files["/net.dat.bz2"] = bz2.compress(b"weights")[:-9] + bytes(9)
    wanted = {"entries": {"net": entry}, "pins": tmp_path / "pins.json", "downloader": Downloader(progress=False)}
    with pytest.raises(DataError, match=r"net\.dat\.bz2 is damaged"):
        fetch_data_set("net", tmp_path, **wanted)
    shelf.files["/net.dat.bz2"] = bz2.compress(b"weights")
    (tmp_path / "pins.json").unlink()
    folder = fetch_data_set("net", tmp_path / "again", **wanted)
    assert (folder / "net.dat").read_bytes() == b"weights"


def test_a_missing_file_at_the_publisher_is_said(fetch, shelf):
    del shelf.files["/tiny.zip"]
    with pytest.raises(DataError, match=r"tiny\.zip did not arrive|could not be downloaded"):
        fetch()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="the catalogue has isic2017, ham10000"):
        fetch_data_set("isic", Path())


def test_the_catalogue_is_complete():
    entries = catalogue()
    assert {"isic2017", "ham10000", "isic2018_task1"} <= set(entries)
    for entry in entries.values():
        assert all(file.url.startswith("https://") and "." in file.filename for file in entry.files)
        assert entry.licence
        assert entry.citation
        assert len({file.filename for file in entry.files}) == len(entry.files)


@pytest.mark.parametrize("name", layouts())
def test_licence_citation_and_size_of_whatever_is_read_as_published(name):
    """Nobody should have to download 80 GB to learn that it is 80 GB, or under which licence."""
    entry = catalogue()[name]
    assert entry.layout == name
    assert entry.homepage.startswith("https://")
    assert entry.licence
    assert re.search(r"\d{4}|whom attribution names", entry.citation)
    assert entry.images > 0 or "chosen" in entry.size_from
    assert entry.size_from
    assert entry.gigabytes > 0 or re.search(r"gives bytes|shows the size", entry.size_from)
    assert "gigabytes" not in entry.checked or entry.gigabytes
    assert any(entry.size in line for line in catalogue_lines(entry))


def test_a_size_is_said_as_far_as_it_is_known():
    entry = catalogue()["isic2016"]
    assert entry.size == "1,279 images, about 0.8 GB"
    assert entry.model_copy(update={"gigabytes": 0}).size == "1,279 images"
    assert catalogue()["isic_archive"].size == "as many images as you choose"
    assert catalogue()["yunet"].size == "about 0.3 MB"


def test_a_set_behind_a_form_says_where_to_get_it_and_where_to_put_it(tmp_path):
    with pytest.raises(DataError, match=rf"get it at https://ddi-dataset\.github\.io and unpack it below {tmp_path}"):
        fetch_data_set("ddi", tmp_path, say=lambda _: None)
