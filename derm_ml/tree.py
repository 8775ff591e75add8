"""What is in a folder that somebody else filled: walked once, the kind of each entry known before it is opened.

tree = files_below(raw)
tree.files()  tree.folders()  tree.has_file(path)  tree.odd
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from derm_ml.files import kind_of, open_plain
from derm_ml.records import Problem

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
    passed: tuple[str, ...] = field(default=(), repr=False)  # from the top: hidden entries, which were not entered

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
        top = _joined(self._top, folder)
        return Tree(self.root / folder, self._inside, self._odd, top, self.passed) if folder else self

    def only(self, files: Iterable[str]) -> Tree:
        """The same folder as if it held nothing but `files`, in as many steps as there are of them."""
        inside: dict[str, dict[str, bool]] = {"": {}}
        for path in files:
            folder, _, name = path.rpartition("/")
            if folder not in inside:
                above = ""
                for part in folder.split("/"):
                    inside.setdefault(above, {})[part] = True
                    above = _joined(above, part)
                inside.setdefault(folder, {})
            inside[folder][name] = False
        return Tree(self.root, inside, ())

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
        self._passed: list[str] = []
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
        return Tree(self._root, self._inside, tuple(self._odd), passed=tuple(sorted(self._passed)))

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
            self._passed.append(path)
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
            allowed = "allow it (follow_links: true of the task in params.yaml)"
            self._problem(path, f"is a link that leaves the folder; put a copy there, or {allowed}")
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


def folder_md5(folder: Path) -> str:
    """The md5 DVC gives a tracked folder (`….dir`): over the sorted list of relative path and md5 of each file.

    Computing it here lets a dataset say its own version where no DVC is at hand; a test holds it equal to dvc.lock.
    """
    return md5_of_list(md5s_below(folder))


def md5s_below(folder: Path) -> dict[str, str]:
    """Relative path → md5, of every file in a folder."""
    found = {}
    for name in files_below(folder, hidden=True).files():
        with open_plain(folder / name) as file:
            found[name] = hashlib.file_digest(file, "md5").hexdigest()
    return found


def md5_of_list(files: Mapping[str, str]) -> str:
    """The md5 of a folder by its files (relative path → md5): that of the list DVC keeps of it."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files, key=lambda name: name.split("/"))]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


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
