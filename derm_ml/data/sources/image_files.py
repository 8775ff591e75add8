"""The image files of a folder, and the check that the list and the folder tell the same story.

No image is passed over in silence: one that is not read is a `Problem`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from derm_ml.images.decode import IMAGE_EXTENSIONS
from derm_ml.images.kinds import what_is
from derm_ml.records import Problem
from derm_ml.tree import Tree


def image_files(tree: Tree, folder: str = "", deep: bool = False) -> tuple[list[str], list[Problem]]:
    """Paths (in the order of their parts) of the images in `folder` (and below it if `deep`), and a problem for each
    image that is not read. What is no image is in neither: `read_source` accounts for it."""
    images: list[str] = []
    problems: list[Problem] = []
    for name in tree.files(folder, deep=deep):
        if is_image(name):
            images.append(name)
        elif (kind := what_is(tree.root / name)).is_a != "no_image":
            problems.append(Problem(name, kind.reason))
    return images, problems


def is_image(name: str) -> bool:
    """Whether a file is read as an image, by its ending."""
    return Path(name).suffix.lower() in IMAGE_EXTENSIONS


def unlisted(images: Mapping[str, str], listed: set[str], where: str) -> list[Problem]:
    """A problem for each image (id → path) that `where` has no row for; it may be of another data set beside it."""
    return [
        Problem(path, f"is not listed in {where}; add a row or remove the image", kind="unclaimed")
        for name, path in images.items()
        if name not in listed
    ]


def named_like_images(tree: Tree) -> list[Problem]:
    """A problem for each folder whose name ends like an image's: somebody will look for that image."""
    return [
        Problem(folder, "is a folder with the name of an image; rename it")
        for folder in tree.folders(deep=True)
        if Path(folder).suffix.lower() in IMAGE_EXTENSIONS
    ]


def distinct_ids(paths: Sequence[str]) -> list[str]:
    """An id for each path: its stem, or the whole path joined by hyphens where two paths share a stem."""
    stems = [Path(path).stem for path in paths]
    times = Counter(stems)
    return [
        Path(path).with_suffix("").as_posix().replace("/", "-") if times[stem] > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
