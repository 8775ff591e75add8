"""Where the picture of a file with boxes lies: beside it, in `images`, or in a folder beside its folder.

pictures = Pictures(tree)
pictures.below("VOC2007/Annotations/a.xml", "a.jpg", where)   → "VOC2007/JPEGImages/a.jpg"
pictures.below("annotations/instances_val2017.json", "7.jpg", where)   → "val2017/7.jpg"
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from derm_ml.data.sources.split_names import list_split, path_split
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import DataError
from derm_ml.tree import Tree


class Pictures:
    """The pictures below a folder, and where those of a file with boxes are looked for; each folder is asked once."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._beside: dict[str, list[str]] = {}

    def below(self, file: str, name: Any, where: str) -> str:
        """The path of a picture that `file` names; as written if it is not there.

        Raises `DataError` for a name that is no path below it.
        """
        if not isinstance(name, str):
            raise DataError(
                f"{where}: the image's name is {quoted(name)}, not a text; write its path relative to the file"
            )
        relative = PurePosixPath(name.replace("\\", "/"))
        if not relative.name or relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"{where}: '{quoted(name)}' is no path below it; write image paths relative to the file")
        base = PurePosixPath(file).parent
        places = [base / relative, base / "images" / relative, base / relative.name, base / "images" / relative.name]
        found = next((str(place) for place in places if self.tree.has_file(str(place))), "")
        return found or self._elsewhere(file, base, relative) or str(places[0])

    def _elsewhere(self, file: str, base: PurePosixPath, relative: PurePosixPath) -> str:
        """In the folders beside that of the file, or one below them; of several that of the file's own split."""
        folders = self._folders(str(base.parent) if base.parts else "", str(base))
        names = dict.fromkeys((str(relative), relative.name))
        found = [path for folder in folders for name in names if self.tree.has_file(path := f"{folder}/{name}")]
        split = list_split(PurePosixPath(file).stem) or path_split(file)
        of_split = [path for path in found if split and path_split(path) == split]
        return next(iter(of_split or found), "")

    def _folders(self, above: str, own: str) -> list[str]:
        if own not in self._beside:
            above = "" if above == "." else above
            beside = [folder for folder in self.tree.folders(above) if folder != own]
            below = [inner for folder in beside for inner in self.tree.folders(folder)]
            self._beside[own] = [*beside, *below]
        return self._beside[own]
