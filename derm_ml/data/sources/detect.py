"""Recognises the layout of a raw folder and reads it; a folder of several data sets is read as several sources.

    >>> labels = ("melanoma", "nevus", "seborrheic_keratosis")
    >>> len(read_source(Path("data/raw/lesion_classification"), labels=labels).samples)
    120

A folder is first tried as one of the layouts. What that layout does not claim is tried again, as if the rest were not
there, so that two data sets unpacked into one folder are two sources. If it is none, each of its sub-folders (to any
depth, so `isic2017/`, `batches/2026-11-20/`) is tried, and is a source of its own, named by its path. Sample ids are
unique over all: where a later source brings an id again, its sample becomes `<source>:<id>`. Deliveries are later than
all others, which come in alphabetical order.

`source.json` in a source's folder (`derm fetch` writes it) says the licence of its images.

The folder is walked once (`files_below`): what is no file of it (a link that leaves it, a pipe, a name that is not
UTF-8) is a problem by name, and no layout sees it. In the end `account_for_all` gives every file a fate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from derm_ml.data.deliveries import accepted_readings
from derm_ml.data.sources import (
    class_folders,
    csv_list,
    findings_table,
    image_and_mask_folders,
    visits,
)
from derm_ml.data.sources.every_file import account_for_all, unclaimed_by, without
from derm_ml.data.sources.hints import hint
from derm_ml.data.sources.image_files import named_like_images
from derm_ml.data.sources.labels import LabelMap, LabelNames
from derm_ml.data.sources.lists_read import lists_read
from derm_ml.data.sources.published_set import PublishedSet, layouts_about
from derm_ml.data.sources.split_names import with_folder_splits
from derm_ml.data.sources.text_files import quoted, read_json
from derm_ml.records import DELIVERIES, DataError, Listed, Origin, Reading, with_prefix
from derm_ml.tree import Tree, files_below


class Layout(Protocol):
    """What reads one layout: a module of this package, or an entry of layouts.yaml."""

    def recognise(self, tree: Tree, labels: LabelMap) -> bool: ...

    def read(self, tree: Tree, labels: LabelMap) -> Reading: ...


# in the order in which they are tried: the most specific first, since HAM10000's image folder looks like a class
_OWN: dict[str, Layout] = {"findings_table": findings_table, "csv_list": csv_list, "class_folders": class_folders}
LAYOUTS: dict[str, Layout] = {**layouts_about("skin"), **_OWN}
RETINA_LAYOUTS: dict[str, Layout] = {**layouts_about("retina"), **_OWN}
# of pictures with masks, for the tasks that draw them
MASK_LAYOUTS: dict[str, Layout] = {"image_and_mask_folders": image_and_mask_folders}
# of pairs of photos with boxes
PAIR_LAYOUTS: dict[str, Layout] = {"visits": visits}


def read_source(
    root: Path,
    layout: str = "auto",
    *,
    labels: Sequence[str],
    label_map: LabelNames | None = None,
    defaults: LabelNames | None = None,
    setting: str = "the label map",
    meanings: LabelMap | None = None,
    layouts: Mapping[str, Layout] = LAYOUTS,
    follow_links: bool = False,
    not_read: Sequence[str] = (),
) -> Reading:
    """Read a folder as downloaded into samples and problems, paths relative to `root`; every file has a fate.

    `layout` names one of `layouts`, or `auto` to recognise it. `label_map` says what a source's own names mean
    (`sources/labels.py`), `defaults` what they mean where neither it nor the publisher says, and `setting` is where the
    user would say it (or all three as `meanings`); without any, `diagnoses.yaml` counts. `follow_links`: also links
    that lead out of the folder are read. `not_read` names files and folders below it that take no part. Raises
    `DataError` naming file and line, and naming the folders whose images no layout claims.
    """
    names = meanings or LabelMap(tuple(labels), label_map, defaults or {}, setting)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give the folder that holds the images as downloaded")
    if layout != "auto" and layout not in layouts:
        raise DataError(f"unknown layout '{layout}'; known: auto, {', '.join(layouts)}")
    whole = files_below(root, links="all" if follow_links else "inside")
    tree, left = without(whole, not_read)
    if layout == "auto":
        parts = list(_parts(tree, names, layouts))
    else:
        parts = [("", _read_one(tree, "", layout, layouts[layout], names))]
        delivered = [f for f in unclaimed_by(parts[0][1], tree, "") if f.startswith(f"{DELIVERIES}/")]
        parts += _parts(tree.only(delivered), names, layouts)  # a delivery has any layout
    if not parts:
        raise DataError(_unknown(whole, names, layouts))
    around = replace(left, problems=(*whole.odd, *named_like_images(whole)))
    joined = account_for_all(tree, _joined([*accepted_readings(root, parts), around]), _expected(names, layouts))
    joined = replace(joined, samples=with_folder_splits(joined.samples))
    if not joined.samples and not joined.problems and not joined.set_aside:
        raise DataError(f"{root}: there are no images; unpack the data set there")
    return joined


def _parts(
    tree: Tree, names: LabelMap, layouts: Mapping[str, Layout], folder: str = ""
) -> Iterator[tuple[str, Reading]]:
    """(path relative to the tree's root, reading) of each source at or below `folder`."""
    here = tree.at(folder)
    kind = next((name for name, layout in layouts.items() if layout.recognise(here, names)), "")
    if not kind:
        for path in tree.folders(folder):
            yield from _parts(tree, names, layouts, path)
        return
    reading = _read_one(here, folder, kind, layouts[kind], names)
    yield folder, reading
    if rest := unclaimed_by(reading, here, folder):
        yield from _parts(tree.only(rest), names, layouts, folder)


def _unknown(tree: Tree, names: LabelMap, layouts: Mapping[str, Layout]) -> str:
    odd = tree.odd
    if odd and not tree.files():  # the reason is what was not read
        return f"{tree.root}: nothing in it can be read; the first entry, {quoted(odd[0].file)}, {odd[0].reason}"
    expected = _expected(names, layouts)
    if any(hasattr(layout, "EXPECTED") for layout in layouts.values()):  # masks or boxes, which no list labels
        return f"{tree.root}: the layout is not recognised; expected {expected}"
    likely = hint(tree, names.setting, names.labels)
    return f"{tree.root}: the layout is not recognised" + (f": {likely}. " if likely else "; ") + f"Expected {expected}"


def _expected(names: LabelMap, layouts: Mapping[str, Layout]) -> str:
    """What the task could read there, in words."""
    own = [layout.EXPECTED for layout in layouts.values() if hasattr(layout, "EXPECTED")]
    if own:
        return " or ".join(own)
    known = ", ".join(sorted({*names.labels, *(names.names or {})}))
    return (
        f"a published set ({', '.join(name for name, layout in layouts.items() if isinstance(layout, PublishedSet))}), "
        "a list labels.csv with the columns filename and label, a table train.csv with the column filename and one "
        f"column of 0 and 1 for each finding, or a folder for each class{f' ({known})' if known else ''}"
    )


def _read_one(here: Tree, folder: str, kind: str, layout: Layout, names: LabelMap) -> Reading:
    with lists_read() as lists:
        reading = layout.read(here, names)
        licence = _licence(here)
    if licence:
        reading = replace(reading, samples=tuple(replace(s, licence=licence) for s in reading.samples))
    used = [(path.relative_to(here.root).as_posix(), list_) for path, list_ in lists.items()]
    listed = tuple(
        Listed(file, tuple(c for c in use.columns if c in use.used), tuple(c for c in use.columns if c not in use.used))
        for file, use in used
    )
    prefixed = with_prefix(replace(reading, lists=listed), folder, folder or kind)
    return replace(prefixed, origins=(Origin(folder or kind, kind, reading.left_out),))


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
    return Reading(
        tuple(samples),
        tuple(p for reading in readings for p in reading.problems),
        left_out,
        set_aside={file: why for reading in readings for file, why in reading.set_aside.items()},
        no_images={file: what for reading in readings for file, what in reading.no_images.items()},
        lists=tuple(listed for reading in readings for listed in reading.lists),
        origins=tuple(origin for reading in readings for origin in reading.origins),
        unmatched={name: values for reading in readings for name, values in reading.unmatched.items()},
        present={name: values for reading in readings for name, values in reading.present.items()},
        notes=tuple(note for reading in readings for note in reading.notes),
    )
