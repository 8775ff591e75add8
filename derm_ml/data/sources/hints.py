"""What is probably meant by a folder that no layout recognises: the most common cause, with the user's own names.

hint(tree, columns, setting)   → one sentence with the change to make, or "" where nothing is near a layout
renamed(there, wanted)         → "rename file to filename and class to label", or ""
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from derm_ml.data.sources.csv_table import columns_of
from derm_ml.data.sources.image_files import is_image
from derm_ml.data.sources.renaming import renamed
from derm_ml.data.sources.text_files import quoted, some
from derm_ml.tree import Tree

LIST_COLUMNS = ("filename", "label")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def hint(tree: Tree, setting: str, labels: Sequence[str], columns: Collection[str] = LIST_COLUMNS) -> str:
    """The likely cause and the change, for a folder without a layout the task reads by lists and class folders."""
    images = [file for file in tree.files() if is_image(file)]
    if not images:
        packed = [file for file in tree.files() if PurePosixPath(file).suffix.lower() in _ARCHIVES]
        return f"{quoted(packed[0])} is still packed: unpack it" if packed else ""
    for name in tree.files(ending=".csv"):
        there = columns_of(tree.root / name)
        if change := renamed(there, columns):
            return f"{quoted(name)} looks like the list: {change} in its first line"
    above = {str(PurePosixPath(file).parent.parent) for file in images if len(PurePosixPath(file).parts) > 1}
    for parent in sorted(above, key=lambda path: (path.count("/"), path)):
        inside = tree.folders("" if parent == "." else parent)
        found = [PurePosixPath(f).name for f in inside if any(image.startswith(f"{f}/") for image in images)]
        if len(found) > 1:
            where = "" if parent == "." else f" in {quoted(parent)}"
            return (
                f"if {some([quoted(name) for name in found])}{where} are classes, say what each means in "
                f'{setting.partition(",")[0]}, e.g. "{quoted(found[0])}": {labels[0] if labels else "glaucoma"}'
            )
    first = PurePosixPath(images[0])
    return (
        f"no list names {quoted(str(first))} and its label: write labels.csv with the columns {', '.join(columns)}, "
        f"e.g. {quoted(first.name)},{labels[0] if labels else 'glaucoma'}"
    )
