"""Which image a list means: by its path, its name, or its name without ending, however the list spells it.

    index = ImageIndex(tree, files)
    index.find("C:\\\\data\\\\ISIC_0000001.JPG")   → ["images/part_1/ISIC_0000001.jpg"]

Built once from the files of a folder; each question is one look-up, so that n rows and n files cost n steps.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from derm_ml.data.sources.text_files import some
from derm_ml.files import open_plain
from derm_ml.images.decode import IMAGE_EXTENSIONS
from derm_ml.tree import Tree

_BLOCK = 2**20


class ImageIndex:
    """The images of one source by path, by name and by stem; case, Unicode form and lost zeros do not matter."""

    def __init__(self, tree: Tree, files: Iterable[str]) -> None:
        self._tree = tree
        self._paths: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._numbers: dict[str, list[str]] = defaultdict(list)
        for file in files:
            path = PurePosixPath(file)
            self._paths[_folded(file)].append(file)
            self._names[_folded(path.name)].append(file)
            stem = _folded(path.stem)
            self._stems[stem].append(file)
            if stem.isdecimal():
                self._numbers[stem.lstrip("0")].append(file)

    def find(self, given: str) -> list[str]:
        """The files that `given` can mean, the nearest match alone: [] for none, several where it is not decided.

        Files of one name with the same bytes are one image: its first copy is taken (`copies` names the others).
        """
        name = _folded(given.replace("\\", "/")).strip()
        last = name.rpartition("/")[2]
        stem = _stem(last)
        found = (
            self._paths.get(name)
            or self._names.get(last)
            or self._stems.get(last)
            or self._stems.get(stem)
            or (self._numbers.get(stem.lstrip("0")) if stem.isdecimal() else None)
            or []
        )
        return self._nearest(name, found) if len(found) > 1 else found

    def copies(self, file: str) -> list[str]:
        """The other files with the name of `file` (without ending) and its bytes."""
        alike = self._stems[_folded(PurePosixPath(file).stem)]
        return [other for other in alike if other != file and same_bytes(self._tree, file, other)]

    def _nearest(self, name: str, found: Sequence[str]) -> list[str]:
        """Of several, those whose path ends as the list says; of copies the first."""
        parts = PurePosixPath(_stem(name) if name else name).parts
        shared = {file: _shared_end(parts, PurePosixPath(_folded(file)).with_suffix("").parts) for file in found}
        most = max(shared.values())
        left = [file for file in found if shared[file] == most]
        return left[:1] if all(same_bytes(self._tree, left[0], other) for other in left[1:]) else left


def same_bytes(tree: Tree, a: str, b: str) -> bool:
    """Whether two files hold the same; empty ones hold nothing."""
    first, second = tree.root / a, tree.root / b
    size = first.stat().st_size
    if not size or size != second.stat().st_size:
        return False
    with open_plain(first) as one, open_plain(second) as other:
        while block := one.read(_BLOCK):
            if block != other.read(_BLOCK):
                return False
    return True


def several(found: Sequence[str]) -> str:
    """What an error says of a name that several files have."""
    return f"is there twice ({some(list(found))})"


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _stem(name: str) -> str:
    """Without the ending of an image; `ISIC_0.5` keeps its point."""
    return name[: -len(suffix)] if (suffix := Path(name).suffix) in IMAGE_EXTENSIONS else name


def _shared_end(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        count += 1
    return count
