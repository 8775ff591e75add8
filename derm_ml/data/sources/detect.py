"""Recognises the layout of a raw folder and reads it; a folder of such folders is read as several sources.

    >>> labels = ("melanoma", "nevus", "seborrheic_keratosis")
    >>> len(read_source(Path("data/raw/lesion_classification"), labels=labels).samples)
    120

A folder is first tried as one of the layouts. If it is none, each of its sub-folders that is one (to any depth,
so `isic2017/`, `batches/2026-11-20/`) is a source of its own, named by its path. Sample ids are unique over all:
where a later source brings an id again, its sample becomes `<source>:<id>`. Deliveries are later than all others,
which come in alphabetical order.

`source.json` in a source's folder (`derm fetch` writes it) says the licence of its images.

The folder is walked once (`files_below`): what is no file of it (a link that leaves it, a pipe, a name that is not
UTF-8) is a problem by name, and no layout sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from derm_ml.data.deliveries import accepted
from derm_ml.data.sources import (
    class_folders,
    csv_list,
    findings_table,
    ham10000,
    image_and_mask_folders,
    isic2017,
    visits,
)
from derm_ml.data.sources.image_files import image_files, named_like_images
from derm_ml.data.sources.labels import LabelMap, LabelNames
from derm_ml.data.sources.text_files import read_json, shown
from derm_ml.records import DataError, Reading, with_prefix
from derm_ml.tree import Tree, files_below

# in the order in which they are tried: the most specific first, since HAM10000's image folder looks like a class
LAYOUTS: dict[str, ModuleType] = {
    "isic2017": isic2017,
    "ham10000": ham10000,
    "findings_table": findings_table,
    "csv_list": csv_list,
    "class_folders": class_folders,
}
# of pictures with masks, for the tasks that draw them
MASK_LAYOUTS: dict[str, ModuleType] = {"image_and_mask_folders": image_and_mask_folders}
# of pairs of photos with boxes
PAIR_LAYOUTS: dict[str, ModuleType] = {"visits": visits}


def read_source(
    root: Path,
    layout: str = "auto",
    *,
    labels: Sequence[str],
    label_map: LabelNames | None = None,
    layouts: Mapping[str, ModuleType] = LAYOUTS,
    follow_links: bool = False,
) -> Reading:
    """Read a folder as downloaded into samples and problems, paths relative to `root`.

    `layout` names one of `layouts`, or `auto` to recognise it. `label_map` says what a source's own names mean
    (`sources/labels.py`); without it a layout's default is used. `follow_links`: also links that lead out of the folder
    are read. Raises `DataError` naming file and line.
    """
    names = LabelMap(tuple(labels), label_map)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give the folder that holds the images as downloaded")
    if layout != "auto" and layout not in layouts:
        raise DataError(f"unknown layout '{layout}'; known: auto, {', '.join(layouts)}")
    tree = files_below(root, links="all" if follow_links else "inside")
    parts = [("", layout)] if layout != "auto" else _sources(tree, names, layouts)
    if not parts:
        raise DataError(_unknown(tree, names, layouts))
    readings = [
        (folder, _read_one(tree.at(folder), folder, layouts[kind], names, folder or kind)) for folder, kind in parts
    ]
    joined = _joined([*accepted(root, readings), Reading((), (*tree.odd, *named_like_images(tree)))])
    if not joined.samples and not joined.problems and not joined.left_out:
        raise DataError(f"{root}: there are no images; unpack the data set there")
    return joined


def _sources(tree: Tree, names: LabelMap, layouts: Mapping[str, ModuleType], folder: str = "") -> list[tuple[str, str]]:
    """(path relative to the tree's root, layout) of each source at or below `folder`.

    Raises `DataError` for a folder with images that is no source: its images would be lost without a word.
    """
    here = tree.at(folder)
    kind = next((name for name, layout in layouts.items() if layout.recognise(here, names)), "")
    if kind:
        return [(folder, kind)]
    found = [source for path in tree.folders(folder) for source in _sources(tree, names, layouts, path)]
    if found and image_files(here)[0]:
        raise DataError(
            f"{here.root}: there are images beside folders that are sources; move them into one, with a list"
        )
    if not found and folder and image_files(here, deep=True)[0]:
        raise DataError(_unknown(here, names, layouts))
    return found


def _unknown(tree: Tree, names: LabelMap, layouts: Mapping[str, ModuleType]) -> str:
    odd = tree.odd
    if odd and not tree.files():  # the reason is what was not read
        return f"{tree.root}: nothing in it can be read; the first entry, {shown(odd[0].file)}, {odd[0].reason}"
    folder = tree.root
    if layouts is not LAYOUTS:
        expected = " or ".join(layout.EXPECTED for layout in layouts.values())
        return f"{folder}: the layout is not recognised; expected {expected}"
    known = ", ".join(sorted({*names.labels, *(names.names or {})}))
    return (
        f"{folder}: the layout is not recognised; expected the official ISIC 2017 or HAM10000 folders, "
        f"a list labels.csv with the columns filename and label, a table train.csv with the column filename and one "
        f"column of 0 and 1 for each finding, or a folder for each class ({known})"
    )


def _read_one(here: Tree, folder: str, layout: ModuleType, names: LabelMap, source: str) -> Reading:
    reading = layout.read(here, names)
    licence = _licence(here)
    if licence:
        reading = replace(reading, samples=tuple(replace(s, licence=licence) for s in reading.samples))
    return with_prefix(reading, folder, source)


def _licence(here: Tree) -> str:
    if not here.has_file("source.json"):
        return ""
    path = here.root / "source.json"
    said = read_json(path)
    licence = said.get("licence") if isinstance(said, dict) else None
    if not isinstance(licence, str) or not licence.strip():
        raise DataError(f'{path}: no licence can be read; write {{"licence": "…"}}, or remove the file')
    return licence


def _joined(readings: Sequence[Reading]) -> Reading:
    seen: set[str] = set()
    samples = []
    left_out: dict[str, int] = {}
    for reading in readings:
        for sample in reading.samples:
            name = sample.id if sample.id not in seen else f"{sample.source.replace('/', '-')}:{sample.id}"
            if name in seen:
                raise DataError(f"{sample.source}: the id '{sample.id}' occurs twice; rename one of the two images")
            seen.add(name)
            samples.append(replace(sample, id=name))
        for name, count in reading.left_out.items():
            left_out[name] = left_out.get(name, 0) + count
    return Reading(tuple(samples), tuple(p for reading in readings for p in reading.problems), left_out)
