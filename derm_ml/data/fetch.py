"""Download a public data set of `catalogue.yaml` into the layout its source reader knows: `derm fetch isic2017`.

1. The licence is shown. 2. Each file is downloaded (pooch; an interrupted download resumes where it stopped) and
its sha256 compared with the one pinned in `pins.json`; at the first use it is pinned, so commit that file.
3. Everything is unpacked into a temporary folder, counted, and renamed into place: the data set is there or it is
not. `LICENCE.txt` and `source.json` go with it; the source reader carries the licence into the manifest.
"""

from __future__ import annotations

import bz2
import json
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests
from tqdm import tqdm

from derm_ml.data.catalogue import Entry, File, catalogue
from derm_ml.files import is_empty, replacing_folder, sha256, write_json
from derm_ml.images.decode import IMAGE_EXTENSIONS
from derm_ml.records import DataError
from derm_ml.sentences import unknown
from derm_ml.tree import files_below

PINS = Path("pins.json")
Say = Callable[[str], None]

_CHUNK = 2**16  # bytes; what a broken connection costs at most
_TIMEOUT = (20, 60)  # seconds to connect, and of silence; archives answer slowly but not for a minute
_NOT_IMAGES = ("_superpixels", "_segmentation")


def fetch_data_set(
    name: str,
    root: Path,
    say: Say = print,
    *,
    entries: Mapping[str, Entry] | None = None,
    pins: Path = PINS,
    downloader: Downloader | None = None,
) -> Path:
    """Fetch data set `name` into `root/<task>/<name>` and return that folder; a complete one is left as it is.

    Raises `DataError` for an unknown name, a file whose checksum differs from its pin, a download that keeps
    failing, a damaged or unsafe archive, or a wrong number of images.
    """
    entries = catalogue() if entries is None else entries
    if name not in entries:
        raise DataError(unknown("data set", name, entries, "the catalogue has"))
    entry = entries[name]
    folder = root / entry.task / name
    say(f"{entry.title}\nlicence: {entry.licence}. {entry.terms}\ncite: {entry.citation}")
    if not entry.files:
        raise DataError(f"{name} is not fetched by derm: get it at {entry.homepage} and unpack it below {folder}")
    if (folder / "source.json").exists():
        say(f"{folder} is complete already; remove it to fetch it again")
        return folder
    if not is_empty(folder):
        raise DataError(f"{folder} is not empty and was not written by fetch; move it away")
    downloads = folder.parent / f".{name}.downloads"  # hidden, so that a source reader passes it over
    downloads.mkdir(parents=True, exist_ok=True)
    archives = {file: _download(file, entry, downloads, pins, downloader or Downloader()) for file in entry.files}
    with replacing_folder(folder) as temporary:
        for file, archive in archives.items():
            say(f"unpacking {file.filename}")
            _place(archive, temporary / file.into)
        found = _count_images(temporary)
        if found != entry.images:
            raise DataError(f"{name} holds {found} images, {entry.images} are expected; see {entry.homepage}")
        checksums = {file.filename: sha256(archive) for file, archive in archives.items()}
        _write_source(temporary, entry, checksums)
    shutil.rmtree(downloads)
    return folder


# --- download ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Downloader:
    """A downloader for pooch that resumes: pooch's own starts an interrupted file of gigabytes anew.

    What has arrived is kept beside the target as `<name>.part`, with the server's version mark (ETag or date) in
    `<name>.part.version`: parts of two versions are never joined, for the server is asked to start over (If-Range).
    """

    attempts: int = 5
    pause: float = 2.0  # seconds before the second attempt, doubled each time
    progress: bool = True
    partial: Path = Path()

    def to(self, partial: Path) -> Downloader:
        return Downloader(self.attempts, self.pause, self.progress, partial)

    def __call__(self, url: str, output_file: str | os.PathLike, _: object = None) -> None:
        """Download `url` to `output_file`. Raises `requests.RequestException` when the last attempt has failed."""
        for attempt in range(1, self.attempts + 1):
            try:
                self._continue(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == self.attempts:
                    raise
                time.sleep(self.pause * 2 ** (attempt - 1))
        os.replace(self.partial, output_file)
        self._version.unlink(missing_ok=True)

    @property
    def _version(self) -> Path:
        return self.partial.with_name(self.partial.name + ".version")

    def _continue(self, url: str) -> None:
        headers = {"Accept-Encoding": "identity"}  # a range of compressed bytes could not be joined
        start = 0
        if self.partial.exists() and self._version.exists():
            start = self.partial.stat().st_size
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": self._version.read_text(encoding="utf-8")}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:  # nothing beyond what is here: that part cannot be trusted
                self.partial.unlink()
                raise requests.ConnectionError("the server has nothing after the part that is here")
            response.raise_for_status()
            if response.headers.get("Content-Range", "").split("-")[0] != f"bytes {start}":
                start = 0  # the server sends the whole file: another version, or it knows no ranges
                self.partial.unlink(missing_ok=True)  # before its mark is replaced
            self._note_version(response)
            length = int(response.headers.get("Content-Length", 0))
            self._receive(response, start, start + length if length else None)

    def _note_version(self, response: requests.Response) -> None:
        tag = response.headers.get("ETag", "")
        mark = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        if mark:
            self._version.write_text(mark, encoding="utf-8")
        else:
            self._version.unlink(missing_ok=True)

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        bar = tqdm(
            desc=self.partial.stem, initial=start, total=total, unit="B", unit_scale=True, disable=not self.progress
        )
        with bar, self.partial.open("ab" if start else "wb") as part:
            for chunk in response.iter_content(_CHUNK):
                part.write(chunk)
                bar.update(len(chunk))
            size = part.tell()
        if total is not None and size < total:
            raise requests.ConnectionError(f"the connection ended after {size} of {total} bytes")


def _download(file: File, entry: Entry, folder: Path, pins: Path, downloader: Downloader) -> Path:
    pooch.get_logger().setLevel("WARNING")  # it would advise to write the checksum into the code; the pin does that
    key = f"{entry.name}/{file.filename}"
    pinned = _read_pins(pins).get(key)
    partial = folder / f"{file.filename}.part"
    try:
        resuming: Any = downloader.to(partial)  # pooch 1.9 declares the type of a downloader wrongly
        path = Path(pooch.retrieve(file.url, pinned, file.filename, folder, downloader=resuming))
    except requests.RequestException as error:
        raise DataError(
            f"{file.url} could not be downloaded ({error}); run the same command again to resume"
        ) from error
    except ValueError as error:  # pooch's way to say that the checksum differs
        raise DataError(
            f"{file.filename} is not the file that was pinned (sha256 {pinned}); if the publisher did replace it, "
            f"remove '{key}' from {pins}"
        ) from error
    if pinned is None:
        write_json(pins, dict(sorted({**_read_pins(pins), key: f"sha256:{sha256(path)}"}.items())))
    return path


def _read_pins(pins: Path) -> dict[str, str]:
    try:
        found = json.loads(pins.read_text(encoding="utf-8")) if pins.exists() else {}
    except ValueError as error:
        raise DataError(f"{pins}: not readable JSON ({error}); restore it from git") from error
    if not isinstance(found, dict):
        raise DataError(f"{pins}: it must hold file names and their sha256; restore it from git")
    return found


# --- unpack -----------------------------------------------------------------------------------------------------


def _place(archive: Path, folder: Path) -> None:
    """Unpack a ZIP or a file compressed by bzip2 into `folder`, or copy any other file there."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = archive.suffix.lower()
    if kind not in (".zip", ".bz2"):
        shutil.copy(archive, folder / archive.name)
        return
    try:
        if kind == ".bz2":
            _decompress(archive, folder / archive.stem)
            return
        with zipfile.ZipFile(archive) as pack:
            members = [m for m in pack.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            _check_members(archive, members, folder)
            for member in tqdm(members, desc=archive.name, unit="file", disable=None):
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with pack.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, _CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise DataError(f"{archive.name} is damaged ({error}); remove {archive} and run the command again") from error
    except OSError as error:  # a name longer than the disk allows, a file where a folder should be, no space left
        raise DataError(f"{archive.name} cannot be unpacked below {folder.parent} ({error.strerror})") from error


def _decompress(archive: Path, target: Path) -> None:
    """Raises `EOFError` for a damaged file, `OSError` for a disk that is full."""
    with bz2.open(archive) as source, target.open("wb") as out:
        try:
            shutil.copyfileobj(source, out, _CHUNK)
        except OSError as error:
            raise (EOFError(error) if error.errno is None else error) from error


def _check_members(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Refuse names that lead out of the folder, links, encrypted files, and more bytes than the disk has."""
    for member in members:
        name = PurePosixPath(member.filename)
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename or is_link:
            raise DataError(f"{archive.name} holds the unsafe name '{member.filename}'; it is not unpacked")
        if member.flag_bits & 1:
            raise DataError(f"{archive.name} is encrypted; it is not unpacked")
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{archive.name} unpacks to {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room")


def _count_images(folder: Path) -> int:
    files = map(Path, files_below(folder, links="none").files())
    return sum(path.suffix.lower() in IMAGE_EXTENSIONS and not path.stem.endswith(_NOT_IMAGES) for path in files)


def _write_source(folder: Path, entry: Entry, checksums: Mapping[str, str]) -> None:
    """`LICENCE.txt` for people, `source.json` for the source reader."""
    text = f"{entry.title}\n{entry.homepage}\n\nLicence: {entry.licence}\n{entry.terms}\n\nCite: {entry.citation}\n"
    (folder / "LICENCE.txt").write_text(text, encoding="utf-8")
    facts = entry.model_dump(include={"name", "title", "layout", "images", "licence", "citation", "homepage"})
    write_json(folder / "source.json", {**facts, "sha256": dict(checksums)})
