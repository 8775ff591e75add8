"""Files: written so that a crash leaves the old state or the new one, read so that an odd entry does no harm.

    with replacing_file(path) as temporary: …        whole or not at all
    tree = files_below(raw); tree.files(); tree.odd  what is in a folder somebody else filled, each entry's kind known
    with open_plain(path) as file: …                 a regular file, never a pipe or a device

What is written has the mode the process's umask leaves; `private_by_default` sets it at every entry.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from derm_ml import DermError
from derm_ml.machine import writing
from derm_ml.records import Problem

_NAME = 40  # characters of a file's name that its temporary name repeats: both must fit into the 255 bytes of a name


class NotAFile(DermError, OSError):
    """A path that should be a file is a folder, a pipe, a device or, where none is allowed, a link."""


class UmaskError(DermError, ValueError):
    """`DERM_UMASK` is no umask."""


# --- writing ----------------------------------------------------------------------------------------------------


def private_by_default() -> None:
    """Let this process and all it starts write files for their owner alone (0600, folders 0700).

    `DERM_UMASK`, three octal digits such as 027, widens that for a group. Raises `UmaskError` for anything else.
    """
    given = os.environ.get("DERM_UMASK", "").strip() or "077"
    if not 3 <= len(given) <= 4 or set(given) - set("01234567") or int(given, 8) > 0o777:
        raise UmaskError(
            f"DERM_UMASK is '{given[:20]}'; write three octal digits, such as 077 (private) or 027 (group)"
        )
    if int(given, 8) & 0o700:
        raise UmaskError(f"DERM_UMASK is {given}: it takes rights from the owner; begin it with 0, such as 027")
    os.umask(int(given, 8))


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed over `path`.

    Raises `WriteError` naming `path` if its folder cannot be written or has no room.
    """
    temporary = _beside(path)
    with writing(path, making=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with writing(path):
            yield temporary
        with writing(path, making=True):
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it takes the place of `path`.

    A folder cannot be renamed over a full one, so the old one is first renamed away: a reader sees the old
    folder, for an instant none, then the new one. Raises `WriteError` as `replacing_file` does.
    """
    temporary = _beside(path)
    with writing(path, making=True):
        if path.exists() and not path.is_dir():  # a file of the user's, not an old result
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        with writing(path):
            yield temporary
        with writing(path, making=True):
            for item in temporary.rglob("*"):
                _sync(item)
            _sync(temporary)
            if path.exists():
                old = _beside(path)
                old.mkdir()
                path.rename(old / path.name)
                temporary.rename(path)
                shutil.rmtree(old)
            else:
                temporary.rename(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically. NaN is refused: a metric that is undefined is null."""
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=False, allow_nan=False) + "\n", encoding="utf-8")


def _beside(path: Path) -> Path:
    """A name of its own beside `path`: hidden, so that no reader takes it for a file of the user's."""
    return path.with_name(f".{path.name[:_NAME]}.{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ----------------------------------------------------------------------------------------------------


def open_plain(path: Path, follow_links: bool = True) -> BufferedReader:
    """Open a regular file for reading. A pipe or a device is not opened, and with `follow_links=False` no link is.

    Raises `NotAFile` saying what the path is instead, and `OSError` as `open` does.
    """
    found = os.stat(path, follow_symlinks=follow_links)
    if not stat.S_ISREG(found.st_mode):
        raise NotAFile(f"{path} is {kind_of(found.st_mode)}, not a file; put the file itself there")
    # between the look and the opening somebody may have changed it: the open file is looked at again
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    opened = os.fstat(handle)
    if not stat.S_ISREG(opened.st_mode):
        os.close(handle)
        raise NotAFile(f"{path} became {kind_of(opened.st_mode)} while it was opened; try again")
    return os.fdopen(handle, "rb")


def kind_of(mode: int) -> str:
    """`st_mode` in words: "a folder", "a link", "a named pipe", …"""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def identity(path: Path) -> tuple[int, int] | None:
    """Inode and time of change (ns), which differ after a file was replaced by a rename; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_md5(folder: Path) -> str:
    """The md5 DVC gives a tracked folder (`….dir`): over the sorted list of relative path and md5 of each file.

    Computing it here lets a dataset say its own version where no DVC is at hand; a test holds it equal to dvc.lock.
    """
    entries = []
    for name in files_below(folder, hidden=True).files():
        with open_plain(folder / name) as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        entries.append({"md5": digest, "relpath": name})
    entries.sort(key=lambda entry: tuple(entry["relpath"].split("/")))
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


# --- what is in a folder ----------------------------------------------------------------------------------------

Links = Literal["none", "inside", "all"]
DEEPEST = 64  # folders; published sets have five
SYSTEM = "__MACOSX"  # what macOS adds to its zips; as hidden files it holds nothing of the user's


@dataclass(frozen=True, slots=True)
class Tree:
    """What one walk found below `root`, seen from one of its folders: files and folders by name, and the odd entries.

    All paths are relative to `root`, with `/`; the order is that of their parts. Nothing here asks the disk again, so
    that a list of n rows and a folder of n files are compared in n steps.
    """

    root: Path
    _inside: Mapping[str, Mapping[str, bool]] = field(repr=False)  # folder from the top → name → whether a folder
    _odd: tuple[Problem, ...] = field(repr=False)
    _top: str = ""  # this root, as seen from where the walk began

    def files(self, folder: str = "", *, deep: bool = True, ending: str = "") -> list[str]:
        """The files in `folder` (and below it if `deep`) whose names end in `ending`, whatever their case."""
        ending = ending.lower()
        return [path for path, is_folder in self._in(folder, deep) if not is_folder and path.lower().endswith(ending)]

    def folders(self, folder: str = "", *, deep: bool = False) -> list[str]:
        """The folders in `folder` (and below it if `deep`)."""
        return [path for path, is_folder in self._in(folder, deep) if is_folder]

    def has_file(self, path: str) -> bool:
        """Whether `path` is a file that may be read."""
        return self._kind(path) is False

    def has_folder(self, path: str) -> bool:
        return self._kind(path) is True

    def at(self, folder: str) -> Tree:
        """The same walk seen from `folder`."""
        return Tree(self.root / folder, self._inside, self._odd, _joined(self._top, folder)) if folder else self

    @property
    def odd(self) -> list[Problem]:
        """The entries that were not read, each with its reason and what to do."""
        above = f"{self._top}/" if self._top else ""
        return [Problem(p.file[len(above) :], p.reason) for p in self._odd if p.file.startswith(above)]

    def _in(self, folder: str, deep: bool) -> Iterator[tuple[str, bool]]:
        start = _joined(self._top, folder)
        cut = len(self._top) + 1 if self._top else 0
        waiting = [(start, True)] if start in self._inside else []
        while waiting:
            path, is_folder = waiting.pop()
            if path != start:
                yield path[cut:], is_folder
            if is_folder and (deep or path == start):
                inner = self._inside[path]
                waiting += [(_joined(path, name), inner[name]) for name in sorted(inner, reverse=True)]

    def _kind(self, path: str) -> bool | None:
        whole = PurePosixPath(_joined(self._top, path))
        return self._inside.get("" if str(whole.parent) == "." else str(whole.parent), {}).get(whole.name)


def files_below(root: Path, *, links: Links = "inside", hidden: bool = False) -> Tree:
    """Walk a folder once, by the kind of each entry: no pipe, socket or device is opened, no loop of links entered.

    `links`: `none` follows no link (what a bundle holds must be in it), `inside` reads a link to a file below `root`
    (a delivery or a raw folder: the bytes are its own), `all` also those that lead out, as the setting `follow_links`
    of a raw folder allows. A linked folder is entered once and never where it is read anyway. Hidden entries and
    `__MACOSX` are passed over unless `hidden`. Raises `NotADirectoryError` or `FileNotFoundError` for the root itself.
    """
    return _Walk(root, links, hidden).tree()


class _Walk:
    def __init__(self, root: Path, links: Links, hidden: bool) -> None:
        self._root, self._links, self._hidden = root, links, hidden
        self._real = os.path.realpath(root)
        self._inside: dict[str, dict[str, bool]] = {}
        self._odd: list[Problem] = []
        self._entered: dict[tuple[int, int], str] = {}  # device and number of each folder → how it was reached
        self._later: list[tuple[str, str]] = []  # links to folders: after all that is there by itself

    def tree(self) -> Tree:
        found = os.stat(self._root)
        self._entered[found.st_dev, found.st_ino] = ""
        with os.scandir(self._root):  # the root itself must be there, and readable
            pass
        self._enter("")
        while self._later:
            self._follow(*self._later.pop(0))
        self._odd.sort(key=lambda problem: problem.file)
        return Tree(self._root, self._inside, tuple(self._odd))

    def _enter(self, folder: str) -> None:
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            names = self._inside[folder] = {}
            if folder.count("/") >= DEEPEST:
                self._problem(folder, f"lies more than {DEEPEST} folders deep; move it up")
                continue
            try:
                with os.scandir(self._root / folder) as entries:
                    for entry in entries:
                        if self._look(folder, names, entry):
                            waiting.append(_joined(folder, entry.name))
            except OSError as error:
                self._problem(folder, f"the folder cannot be opened ({error.strerror}); allow it, or move it away")

    def _look(self, folder: str, names: dict[str, bool], entry: os.DirEntry[str]) -> bool:
        """Note one entry; True for a folder that is to be entered."""
        path = _joined(folder, entry.name)
        if not self._hidden and (entry.name.startswith(".") or entry.name == SYSTEM):
            return False
        if not _is_utf8(entry.name):
            self._problem(path, "its name is not UTF-8; rename it")
            return False
        if entry.is_symlink():
            self._link(path, names, entry.name)
            return False
        if entry.is_dir(follow_symlinks=False):
            found = entry.stat(follow_symlinks=False)
            self._entered.setdefault((found.st_dev, found.st_ino), path)
            names[entry.name] = True
            return True
        if entry.is_file(follow_symlinks=False):
            names[entry.name] = False
        else:
            mode = entry.stat(follow_symlinks=False).st_mode
            self._problem(path, f"is {kind_of(mode)}, not a file; remove it")
        return False

    def _link(self, path: str, names: dict[str, bool], name: str) -> None:
        if self._links == "none":
            self._problem(path, "is a link; put the file itself there")
            return
        try:
            found = os.stat(self._root / path)
        except OSError:  # nothing there, or links that lead to each other
            self._problem(path, "is a link that leads nowhere; remove it")
            return
        inside = _is_below(os.path.realpath(self._root / path), self._real)
        if not inside and self._links != "all":
            self._problem(path, "is a link that leaves the folder; put a copy there, or allow it (follow_links: true)")
        elif stat.S_ISDIR(found.st_mode):
            self._later.append((path, name))
        elif stat.S_ISREG(found.st_mode):
            names[name] = False
        else:
            self._problem(path, f"is a link to {kind_of(found.st_mode)}, not to a file; remove it")

    def _follow(self, path: str, name: str) -> None:
        found = os.stat(self._root / path)
        key = found.st_dev, found.st_ino
        if key in self._entered:
            self._problem(
                path, f"is a link to a folder that is read already ('{self._entered[key] or '.'}'); remove it"
            )
            return
        self._entered[key] = path
        self._inside[path.removesuffix(name).rstrip("/")][name] = True
        self._enter(path)

    def _problem(self, path: str, reason: str) -> None:
        self._odd.append(Problem(os.fsencode(path).decode("utf-8", "backslashreplace"), reason))


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or is not there."""
    return not folder.exists() or (folder.is_dir() and next(folder.iterdir(), None) is None)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
