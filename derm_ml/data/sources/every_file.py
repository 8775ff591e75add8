"""Every file of a raw folder has a fate: read, quarantined, set aside by name, known to be no image, or no layout
claims it, which stops the pipeline.

    tree, left = without(walked, settings.not_read)        what a setting leaves out
    unclaimed_by(reading, here, folder)                    what one layout does not place: another may
    account_for_all(tree, joined, expected)                the rest: named, or an error
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from derm_ml.data.sources.image_files import is_image
from derm_ml.data.sources.text_files import quoted
from derm_ml.images.kinds import Kind, what_is
from derm_ml.records import DataError, Problem, Reading
from derm_ml.tree import Tree

A_LIST = "a list that was read"
HIDDEN = "hidden, or of the system"
_FEW = 4  # folders that an error names


def without(tree: Tree, not_read: Sequence[str]) -> tuple[Tree, Reading]:
    """The folder without what the setting `not_read` names, and a reading of what that leaves out."""
    patterns = {pattern: pattern.strip().replace("\\", "/").strip("/") for pattern in not_read}
    left: dict[str, str] = {}
    matched: set[str] = set()
    for file in tree.files() if patterns else ():
        for pattern, plain in patterns.items():
            if any(_matches(path, plain) for path in (PurePosixPath(file), *PurePosixPath(file).parents)):
                left[file] = f"not_read names {pattern}"
                matched.add(pattern)
                break
    missed = tuple(pattern for pattern in not_read if pattern not in matched)
    aside = Reading(
        (),
        set_aside=left,
        unmatched={"not_read": missed} if missed else {},
        present={"not_read": tuple(tree.folders())} if missed else {},
    )
    return (tree.only(file for file in tree.files() if file not in left) if left else tree), aside


def _matches(path: PurePosixPath, pattern: str) -> bool:
    return bool(path.name) and (str(path) == pattern or path.match(pattern))


def unclaimed_by(reading: Reading, here: Tree, folder: str) -> list[str]:
    """The files of a source's folder that may be another data set's; empty where no image is among them.

    An image that the layout has not placed is one. One that its list does not name is one only where its own top
    folder holds nothing of this source: an image left out of a list beside listed ones is no set of its own.
    """
    placed = _placed(reading)
    if not placed:
        return []
    cut = len(folder) + 1 if folder else 0
    busy = {_top(file[cut:]) for file in placed}
    doubtful = {p.file for p in reading.problems if p.kind == "unclaimed"}
    known = placed | {listed.file for listed in reading.lists}
    rest = [path for file in here.files() if (path := f"{folder}/{file}" if folder else file) not in known]
    rest = [path for path in rest if path not in doubtful or _top(path[cut:]) not in busy]
    return rest if any(is_image(path) for path in rest) else []


def account_for_all(tree: Tree, reading: Reading, expected: str) -> Reading:
    """The reading with a fate for every file. Raises `DataError` naming the folders of images that have none."""
    placed = _placed(reading)
    doubts = {p.file: p for p in reading.problems if p.kind == "unclaimed" and p.file not in placed}
    problems = [p for p in reading.problems if p.kind != "unclaimed"]
    problems += [replace(doubt, kind="unusable") for doubt in doubts.values() if not tree.has_folder(doubt.file)]
    known = placed | doubts.keys()
    lists = {listed.file for listed in reading.lists}
    lost: list[str] = []
    no_images = {**reading.no_images, **dict.fromkeys(tree.passed, HIDDEN), **dict.fromkeys(sorted(lists), A_LIST)}
    for file in tree.files():
        if file in known or file in lists:
            continue
        kind = Kind("image") if is_image(file) else what_is(tree.root / file)
        if kind.is_a == "no_image":
            no_images[file] = kind.what
        elif kind == Kind("image"):
            lost.append(file)
        else:
            problems.append(Problem(file, kind.reason))
    if lost:
        folders = {doubt.file: doubt.reason for doubt in doubts.values() if tree.has_folder(doubt.file)}
        raise DataError(_lost(tree, lost, folders, expected))
    return replace(reading, problems=tuple(problems), no_images=no_images)


def _placed(reading: Reading) -> set[str]:
    """The files that a reading says what became of."""
    of_samples = {file for sample in reading.samples for file in sample.files.values()}
    return of_samples | {p.file for p in reading.problems if p.kind != "unclaimed"} | set(reading.set_aside)


def _lost(tree: Tree, lost: Sequence[str], reasons: dict[str, str], expected: str) -> str:
    for folder, reason in reasons.items():  # a layout has looked at it and says why it is none of its own
        if any(file.startswith(f"{folder}/") for file in lost):
            return f"{tree.root / folder}: {reason}"
    folders: dict[str, list[str]] = {}
    for file in lost:
        folders.setdefault(file.rpartition("/")[0] or ".", []).append(file)
    named = [
        f"{folder} ({len(files)}, e.g. {quoted(files[0].rpartition('/')[2])})" for folder, files in folders.items()
    ]
    more = f" and {len(named) - _FEW} more folders" if len(named) > _FEW else ""
    return (
        f"{tree.root}: of no recognised data set: {len(lost)} image{'s' * (len(lost) > 1)} in "
        f"{', '.join(named[:_FEW])}{more}. Give them one of the layouts ({expected}), move them away, or name their "
        "folder in `not_read` in params.yaml"
    )


def _top(path: str) -> str:
    """The first folder of a path, "" for a file in none."""
    return path.split("/")[0] if "/" in path else ""
