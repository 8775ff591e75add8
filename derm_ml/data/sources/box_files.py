"""Boxes drawn on pictures, in the formats annotation tools write: picture → regions.

* Pascal VOC: an .xml for each picture (`object/name`, `object/bndbox`), beside it or in `Annotations` for `JPEGImages`
* COCO: a .json with `images`, `annotations`, `categories`; `bbox` is x, y, width, height
* YOLO, LabelMe and CVAT: `drawn_boxes.py`
* SCINet's tables: a .json of rows with `image_path` and `image_details`, whose `annotation` entries count where
  `condition` is "Detected"; `bounding_boxes` are "x1,y1,x2,y2" texts
* boxes.csv: filename,label,x1,y1,x2,y2[,lesion_id][,state]; state is persistent, resolved (of a first photo), new (of a
  second), not_visible (in the other photo), or empty where nobody has said

Every function returns paths relative to the root, and regions with the task's own labels.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from derm_ml.asking.pair import STATES
from derm_ml.data.sources.boxes import Boxes, frame_said, region_of
from derm_ml.data.sources.csv_table import read_csv
from derm_ml.data.sources.drawn_boxes import is_labelme, read_cvat, read_labelme, read_yolo
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.pictures_of_boxes import Pictures
from derm_ml.data.sources.text_files import quoted, read_bytes, read_json
from derm_ml.images.decode import IMAGE_EXTENSIONS
from derm_ml.records import DataError, Region
from derm_ml.tree import Tree

DETECTED = "detected"


def read_boxes(tree: Tree, labels: LabelMap) -> tuple[Boxes, dict[str, str]]:
    """All boxes of a folder, whatever formats they are in, and picture → the file that has them. A picture that is only
    listed has no boxes: ().

    Raises `DataError` naming the file (and row) that is damaged, has an unknown label or an impossible box, and if
    one picture has boxes in two files.
    """
    found: Boxes = {}
    origin: dict[str, str] = {}
    for file, boxes in _all(Pictures(tree), labels):
        for picture, regions in boxes.items():
            if picture in origin and origin[picture] != file:
                raise DataError(
                    f"{tree.root / file}: {quoted(picture)} has boxes in {origin[picture]} already; remove one of them"
                )
            origin[picture] = file
            found[picture] = regions
    return found, origin


def _all(pictures: Pictures, labels: LabelMap) -> Iterator[tuple[str, Boxes]]:
    tree = pictures.tree
    for name in tree.files(ending=".xml"):
        root = _xml(tree.root / name)
        if root.tag == "annotations":
            yield name, read_cvat(pictures, name, root, labels)
        else:
            yield name, read_voc(pictures, name, root, labels)
    for name in tree.files(ending=".json"):
        if PurePosixPath(name).name == "source.json":
            continue
        table = read_json(tree.root / name)
        if isinstance(table, dict) and {"images", "annotations", "categories"} <= set(table):
            yield name, read_coco(pictures, name, table, labels)
        elif is_labelme(table):
            yield name, read_labelme(pictures, name, table, labels)
        elif rows := scinet_rows(table):
            yield name, read_scinet(pictures, name, rows, labels)
    yield from read_yolo(pictures, labels)
    if tree.has_file("boxes.csv"):
        yield "boxes.csv", read_boxes_csv(pictures, labels)


def _xml(path: Path) -> ElementTree.Element:
    try:
        found = ElementTree.fromstring(read_bytes(path))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding that is none
        raise DataError(f"{path}: not readable XML ({error}); export it again") from error
    if found.tag not in ("annotation", "annotations"):
        raise DataError(f"{path}: not a Pascal-VOC or CVAT file (its root is <{quoted(found.tag)}>); remove it")
    return found


def read_voc(pictures: Pictures, name: str, found: ElementTree.Element, labels: LabelMap) -> Boxes:
    """One Pascal-VOC file. The picture lies beside it, with the name in `filename` or that of the file itself."""
    tree = pictures.tree
    path, own = tree.root / name, PurePosixPath(name)
    beside = (str(own.with_suffix(suffix)) for suffix in sorted(IMAGE_EXTENSIONS))
    said = found.findtext("filename") or own.with_suffix(".jpg").name
    picture = next((PurePosixPath(p).name for p in beside if tree.has_file(p)), PurePosixPath(said).name)
    regions = []
    frame = frame_said(found.findtext("size/width"), found.findtext("size/height"))
    for number, item in enumerate(found.findall("object"), start=1):
        corners = [item.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
        where = f"{path}: object {number}"
        regions += region_of(where, item.findtext("name") or "", corners, labels, frame=frame)
    return {pictures.below(name, picture, str(path)): tuple(regions)}


def read_coco(pictures: Pictures, name: str, table: Mapping[str, Any], labels: LabelMap) -> Boxes:
    """One COCO file; `file_name` is relative to it, or to a folder `images` beside it."""
    path = pictures.tree.root / name
    where = f"{path}"
    try:
        names = {}
        for number, category in enumerate(table["categories"]):
            where = f"{path}: categories[{number}]"
            names[category["id"]] = category["name"]
        named = {}
        frames = {}
        for number, image in enumerate(table["images"]):
            where = f"{path}: images[{number}]"
            named[image["id"]] = pictures.below(name, image["file_name"], where)
            frames[image["id"]] = frame_said(image.get("width"), image.get("height"))
        boxes: dict[str, list[Region]] = {picture: [] for picture in named.values()}
        for number, item in enumerate(table["annotations"]):
            where = f"{path}: annotations[{number}]"
            if not isinstance(item["bbox"], list):
                raise TypeError("bbox is no list")
            x, y, width, height = (float(v) for v in item["bbox"])
            corners, frame = (x, y, x + width, y + height), frames[item["image_id"]]
            boxes[named[item["image_id"]]] += region_of(where, names[item["category_id"]], corners, labels, frame=frame)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):  # it says itself where it is wrong
            raise
        raise DataError(f"{where}: not as COCO writes it ({quoted(repr(error))}); export it again") from error
    return {picture: tuple(regions) for picture, regions in boxes.items()}


def scinet_rows(table: Any) -> list[Mapping[str, Any]]:
    """The rows of a SCINet table: a list of rows, or columns as pandas writes them. [] where it is none."""
    columns = table.values() if isinstance(table, dict) and "image_path" in table else ()
    if columns and all(isinstance(column, dict) for column in columns):
        table = [{column: values.get(k) for column, values in table.items()} for k in table["image_path"]]
    if isinstance(table, list) and table and all(isinstance(row, dict) and "image_path" in row for row in table):
        return table
    return []


def read_scinet(pictures: Pictures, name: str, rows: Sequence[Mapping[str, Any]], labels: LabelMap) -> Boxes:
    """One of SCINet's tables; `image_path` is relative to it. What was looked for and not detected is no box."""
    found: Boxes = {}
    for number, row in enumerate(rows, start=1):
        where = f"{pictures.tree.root / name}: row {number}"
        try:
            details = row.get("image_details") or {}
            details = json.loads(details) if isinstance(details, str) else details
            regions: list[Region] = []
            for entry in details.get("annotation") or []:
                if str(entry.get("condition", "")).strip().lower() != DETECTED:
                    continue
                boxes = entry["bounding_boxes"]
                for box in [boxes] if isinstance(boxes, str) else boxes:
                    regions += region_of(where, entry["label"], str(box).split(","), labels)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            said = quoted(repr(error))
            raise DataError(f"{where}: not as SCINet writes it ({said}); see image_details.annotation") from error
        found[pictures.below(name, row["image_path"], where)] = tuple(regions)
    return found


def read_boxes_csv(pictures: Pictures, labels: LabelMap) -> Boxes:
    """boxes.csv: one row a box. The same `lesion_id` in two pictures of one patient is the same lesion."""
    path = pictures.tree.root / "boxes.csv"
    boxes: dict[str, list[Region]] = defaultdict(list)
    for row in read_csv(path, ("filename", "label", "x1", "y1", "x2", "y2")):
        where = f"{path}:{row.line}"
        regions = region_of(
            where, row["label"], [row[k] for k in ("x1", "y1", "x2", "y2")], labels, row.get("lesion_id")
        )
        state = row.get("state").strip().lower()
        if state and state not in STATES:
            raise row.error(f"state is '{quoted(state)}'", f"write {', '.join(STATES)}, or leave it empty")
        boxes[pictures.below("boxes.csv", row["filename"], where)] += [replace(r, state=state) for r in regions]
    return {picture: tuple(regions) for picture, regions in boxes.items()}
