"""One folder a class, with or without splits above: `train/melanoma/x.jpg` or `melanoma/x.jpg`.

Split folders are train(ing), val(id)/validation and test(ing), class folders the labels or names of the label map;
case, spaces, hyphens and underscores do not matter. Images may lie deeper inside a class folder.
A sample's id is its file name without ending; where two files share it, their whole path joined by hyphens.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from derm_ml.data.sources.image_files import distinct_ids, image_files
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.split_names import SPLIT_NAMES, folder_split
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

__all__ = ["SPLIT_NAMES", "read", "recognise"]


def recognise(tree: Tree, labels: LabelMap) -> bool:
    """Whether a class folder with a known name is where this layout has it."""
    return any(labels.knows(PurePosixPath(folder).name) for _, folder in _class_folders(tree))


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read every class folder. One whose name is not known may be another data set; if it is not, it stops reading."""
    found: list[tuple[str, str, dict[str, float], str]] = []  # path, split, target, class folder
    problems: list[Problem] = []
    left_out: dict[str, int] = {}
    set_aside: dict[str, str] = {}
    folders = _class_folders(tree)
    for split, folder in folders:
        name = PurePosixPath(folder).name
        files, odd = image_files(tree, folder, deep=True)
        try:
            target = labels.target(name)
        except DataError as error:
            problems += [Problem(folder, str(error), kind="unclaimed")] if files else []
            continue
        problems += odd
        if target is None:
            left_out[name] = left_out.get(name, 0) + len(files)
            set_aside |= dict.fromkeys(files, f"its label {name} is left out")
        else:
            found += [(file, split, target, folder) for file in files]
    for folder in {"", *(f.rpartition("/")[0] for _, f in folders)}:
        stray, odd = image_files(tree, folder)
        problems += [
            *odd,
            *(Problem(f, "lies outside the class folders; move it into one", kind="unclaimed") for f in stray),
        ]
    ids = distinct_ids([file for file, *_ in found])
    samples = [
        Sample(i, {"image": f}, t, split=s, named=PurePosixPath(n).name)
        for i, (f, s, t, n) in zip(ids, found, strict=True)
    ]
    problems.sort(key=lambda problem: problem.file)
    return Reading(tuple(samples), tuple(problems), left_out, set_aside=set_aside)


def _class_folders(tree: Tree) -> list[tuple[str, str]]:
    """(split or "", path) of each class folder, sorted."""
    result = []
    for folder in tree.folders():
        split = folder_split(folder)
        result += [(split, inner) for inner in tree.folders(folder)] if split else [("", folder)]
    return result
