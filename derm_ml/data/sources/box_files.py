"""Boxes drawn on pictures, in the formats annotation tools write: picture → regions.

* Pascal VOC: an .xml beside each picture (`object/name`, `object/bndbox`)
* COCO: a .json with `images`, `annotations`, `categories`; `bbox` is x, y, width, height
* SCINet's tables: a .json of rows with `image_path` and `image_details`, whose `annotation` entries count where
  `condition` is "Detected"; `bounding_boxes` are "x1,y1,x2,y2" texts
* boxes.csv: filename,label,x1,y1,x2,y2[,lesion_id][,state]; state is persistent, resolved (of a first photo), new (of a
  second), not_visible (in the other photo), or empty where nobody has said

Every function returns paths relative to the root, and regions with the task's own labels.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from derm_ml.asking.pair import STATES
from derm_ml.data.sources.csv_table import read_csv
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.text_files import read_bytes, read_json, shown
from derm_ml.images.decode import IMAGE_EXTENSIONS
from derm_ml.records import DataError, Region
from derm_ml.tree import Tree

Boxes = dict[str, tuple[Region, ...]]
DETECTED = "detected"


def read_boxes(tree: Tree, labels: LabelMap) -> Boxes:
    """All boxes of a folder, whatever formats they are in. A picture that is only listed has no boxes: ().

    Raises `DataError` naming the file (and row) that is damaged, has an unknown label or an impossible box, and if
    one picture has boxes in two files.
    """
    found: Boxes = {}
    origin: dict[str, str] = {}
    for file, boxes in _all(tree, labels):
        for picture, regions in boxes.items():
            if picture in origin and origin[picture] != file:
                raise DataError(
                    f"{tree.root / file}: {shown(picture)} has boxes in {origin[picture]} already; remove one of them"
                )
            origin[picture] = file
            found[picture] = regions
    return found


def _all(tree: Tree, labels: LabelMap) -> Iterator[tuple[str, Boxes]]:
    for name in tree.files(ending=".xml"):
        yield name, read_voc(tree, name, labels)
    for name in tree.files(ending=".json"):
        if PurePosixPath(name).name == "source.json":
            continue
        table = read_json(tree.root / name)
        if isinstance(table, dict) and {"images", "annotations", "categories"} <= set(table):
            yield name, read_coco(tree, name, table, labels)
        elif rows := scinet_rows(table):
            yield name, read_scinet(tree, name, rows, labels)
    if tree.has_file("boxes.csv"):
        yield "boxes.csv", read_boxes_csv(tree, labels)


def read_voc(tree: Tree, name: str, labels: LabelMap) -> Boxes:
    """One Pascal-VOC file. The picture lies beside it, with the name in `filename` or that of the file itself."""
    path, own = tree.root / name, PurePosixPath(name)
    try:
        found = ElementTree.fromstring(read_bytes(path))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding that is none
        raise DataError(f"{path}: not readable XML ({error}); export it again") from error
    if found.tag != "annotation":
        raise DataError(f"{path}: not a Pascal-VOC file (its root is <{shown(found.tag)}>); remove it")
    beside = (str(own.with_suffix(suffix)) for suffix in sorted(IMAGE_EXTENSIONS))
    said = found.findtext("filename") or own.with_suffix(".jpg").name
    picture = next((PurePosixPath(p).name for p in beside if tree.has_file(p)), PurePosixPath(said).name)
    regions = []
    frame = _frame(found.findtext("size/width"), found.findtext("size/height"))
    for number, item in enumerate(found.findall("object"), start=1):
        corners = [item.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
        where = f"{path}: object {number}"
        region = _region(where, item.findtext("name") or "", corners, labels, frame=frame)
        regions += [region] if region else []
    return {_below(tree, name, picture, str(path)): tuple(regions)}


def read_coco(tree: Tree, name: str, table: Mapping[str, Any], labels: LabelMap) -> Boxes:
    """One COCO file; `file_name` is relative to it, or to a folder `images` beside it."""
    path = tree.root / name
    where = f"{path}"
    try:
        names = {}
        for number, category in enumerate(table["categories"]):
            where = f"{path}: categories[{number}]"
            names[category["id"]] = category["name"]
        pictures = {}
        frames = {}
        for number, image in enumerate(table["images"]):
            where = f"{path}: images[{number}]"
            pictures[image["id"]] = _below(tree, name, image["file_name"], where)
            frames[image["id"]] = _frame(image.get("width"), image.get("height"))
        boxes: dict[str, list[Region]] = {picture: [] for picture in pictures.values()}
        for number, item in enumerate(table["annotations"]):
            where = f"{path}: annotations[{number}]"
            if not isinstance(item["bbox"], list):
                raise TypeError("bbox is no list")
            x, y, width, height = (float(v) for v in item["bbox"])
            corners, frame = (x, y, x + width, y + height), frames[item["image_id"]]
            region = _region(where, names[item["category_id"]], corners, labels, frame=frame)
            boxes[pictures[item["image_id"]]] += [region] if region else []
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):  # it says itself where it is wrong
            raise
        raise DataError(f"{where}: not as COCO writes it ({shown(repr(error))}); export it again") from error
    return {picture: tuple(regions) for picture, regions in boxes.items()}


def scinet_rows(table: Any) -> list[Mapping[str, Any]]:
    """The rows of a SCINet table: a list of rows, or columns as pandas writes them. [] where it is none."""
    columns = table.values() if isinstance(table, dict) and "image_path" in table else ()
    if columns and all(isinstance(column, dict) for column in columns):
        table = [{column: values.get(k) for column, values in table.items()} for k in table["image_path"]]
    if isinstance(table, list) and table and all(isinstance(row, dict) and "image_path" in row for row in table):
        return table
    return []


def read_scinet(tree: Tree, name: str, rows: Sequence[Mapping[str, Any]], labels: LabelMap) -> Boxes:
    """One of SCINet's tables; `image_path` is relative to it. What was looked for and not detected is no box."""
    found: Boxes = {}
    for number, row in enumerate(rows, start=1):
        where = f"{tree.root / name}: row {number}"
        try:
            details = row.get("image_details") or {}
            details = json.loads(details) if isinstance(details, str) else details
            regions: list[Region] = []
            for entry in details.get("annotation") or []:
                if str(entry.get("condition", "")).strip().lower() != DETECTED:
                    continue
                boxes = entry["bounding_boxes"]
                for box in [boxes] if isinstance(boxes, str) else boxes:
                    region = _region(where, entry["label"], str(box).split(","), labels)
                    regions += [region] if region else []
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            said = shown(repr(error))
            raise DataError(f"{where}: not as SCINet writes it ({said}); see image_details.annotation") from error
        found[_below(tree, name, row["image_path"], where)] = tuple(regions)
    return found


def read_boxes_csv(tree: Tree, labels: LabelMap) -> Boxes:
    """boxes.csv: one row a box. The same `lesion_id` in two pictures of one patient is the same lesion."""
    path = tree.root / "boxes.csv"
    boxes: dict[str, list[Region]] = defaultdict(list)
    for row in read_csv(path, ("filename", "label", "x1", "y1", "x2", "y2")):
        where = f"{path}:{row.line}"
        region = _region(where, row["label"], [row[k] for k in ("x1", "y1", "x2", "y2")], labels, row.get("lesion_id"))
        state = row.get("state").strip().lower()
        if state and state not in STATES:
            raise row.error(f"state is '{shown(state)}'", f"write {', '.join(STATES)}, or leave it empty")
        region = region and replace(region, state=state)
        boxes[_below(tree, "boxes.csv", row["filename"], where)] += [region] if region else []
    return {picture: tuple(regions) for picture, regions in boxes.items()}


def _frame(width: Any, height: Any) -> tuple[int, int] | None:
    """The size of the image on which a file says its boxes were drawn; None where it says none (0 is none)."""
    try:
        size = int(float(width)), int(float(height))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _region(
    where: str,
    name: Any,
    corners: Sequence[Any],
    labels: LabelMap,
    lesion: str = "",
    frame: tuple[int, int] | None = None,
) -> Region | None:
    """A region with the task's label; None for one the label map leaves out."""
    if not isinstance(name, str):
        raise DataError(f"{where}: its label is {shown(name)}, not a name; correct it")
    try:
        target = labels.target(name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    try:
        x1, y1, x2, y2 = (float(v) for v in corners)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: the box is '{shown(corners)}', not four numbers x1, y1, x2, y2") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        raise DataError(f"{where}: the box is empty: x {x1:g} to {x2:g}, y {y1:g} to {y2:g}; correct or remove it")
    if target is None or not any(target.values()):
        return None
    return Region(next(label for label, value in target.items() if value == 1), x1, y1, x2, y2, lesion, "", frame)


def _below(tree: Tree, file: str, name: Any, where: str) -> str:
    """The path of a picture that `file` names, looked for beside it and in `images`; as written if it is not there."""
    if not isinstance(name, str):
        raise DataError(f"{where}: the image's name is {shown(name)}, not a text; write its path relative to the file")
    relative = PurePosixPath(name.replace("\\", "/"))
    if not relative.name or relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{where}: '{shown(name)}' is no path below it; write image paths relative to the file")
    base = PurePosixPath(file).parent
    places = [base / relative, base / "images" / relative, base / relative.name, base / "images" / relative.name]
    return str(next((place for place in places if tree.has_file(str(place))), places[0]))
