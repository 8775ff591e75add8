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
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from derm_ml.images.decode import IMAGE_EXTENSIONS
from derm_ml.pairs import STATES
from derm_ml.records import DataError, Region
from derm_ml.sources.csv_table import read_csv
from derm_ml.sources.labels import LabelMap

Boxes = dict[str, tuple[Region, ...]]
MAX_BYTES = 256 * 2**20
DETECTED = "detected"


def read_boxes(root: Path, labels: LabelMap) -> Boxes:
    """All boxes of a folder, whatever formats they are in. A picture that is only listed has no boxes: ().

    Raises `DataError` naming the file (and row) that is damaged, has an unknown label or an impossible box, and if
    one picture has boxes in two files.
    """
    found: Boxes = {}
    origin: dict[str, str] = {}
    for file, boxes in _all(root, labels):
        for picture, regions in boxes.items():
            if picture in origin and origin[picture] != file:
                raise DataError(f"{root / file}: {picture} has boxes in {origin[picture]} already; remove one of them")
            origin[picture] = file
            found[picture] = regions
    return found


def _all(root: Path, labels: LabelMap) -> Iterator[tuple[str, Boxes]]:
    for path in sorted(root.rglob("*.xml")):
        yield path.relative_to(root).as_posix(), read_voc(root, path, labels)
    for path in sorted(root.rglob("*.json")):
        if path.name == "source.json":
            continue
        table = read_json(path)
        name = path.relative_to(root).as_posix()
        if isinstance(table, dict) and {"images", "annotations", "categories"} <= set(table):
            yield name, read_coco(root, path, table, labels)
        elif rows := scinet_rows(table):
            yield name, read_scinet(root, path, rows, labels)
    if (root / "boxes.csv").is_file():
        yield "boxes.csv", read_boxes_csv(root, labels)


def read_voc(root: Path, path: Path, labels: LabelMap) -> Boxes:
    """One Pascal-VOC file. The picture lies beside it, with the name in `filename` or that of the file itself."""
    try:
        tree = ElementTree.fromstring(_bytes(path))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not readable XML ({error}); export it again") from error
    if tree.tag != "annotation":
        raise DataError(f"{path}: not a Pascal-VOC file (its root is <{tree.tag}>); remove it")
    beside = (path.with_suffix(suffix) for suffix in sorted(IMAGE_EXTENSIONS))
    picture = next((p.name for p in beside if p.is_file()), tree.findtext("filename") or path.with_suffix(".jpg").name)
    regions = []
    for number, item in enumerate(tree.findall("object"), start=1):
        corners = [item.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
        where = f"{path}: object {number}"
        region = _region(where, item.findtext("name") or "", corners, labels)
        regions += [region] if region else []
    return {_below(root, path.parent, PurePosixPath(picture).name, path): tuple(regions)}


def read_coco(root: Path, path: Path, table: Mapping[str, Any], labels: LabelMap) -> Boxes:
    """One COCO file; `file_name` is relative to it, or to a folder `images` beside it."""
    try:
        names = {category["id"]: category["name"] for category in table["categories"]}
        pictures = {image["id"]: _below(root, path.parent, image["file_name"], path) for image in table["images"]}
        boxes: dict[str, list[Region]] = {picture: [] for picture in pictures.values()}
        for item in table["annotations"]:
            where = f"{path}: annotation {item['id']}"
            x, y, width, height = item["bbox"]
            region = _region(where, names[item["category_id"]], (x, y, x + width, y + height), labels)
            boxes[pictures[item["image_id"]]] += [region] if region else []
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a whole COCO file ({error!r}); export it again") from error
    return {picture: tuple(regions) for picture, regions in boxes.items()}


def scinet_rows(table: Any) -> list[Mapping[str, Any]]:
    """The rows of a SCINet table: a list of rows, or columns as pandas writes them. [] where it is none."""
    if isinstance(table, dict) and isinstance(table.get("image_path"), dict):
        table = [{column: values.get(k) for column, values in table.items()} for k in table["image_path"]]
    if isinstance(table, list) and table and all(isinstance(row, dict) and "image_path" in row for row in table):
        return table
    return []


def read_scinet(root: Path, path: Path, rows: Sequence[Mapping[str, Any]], labels: LabelMap) -> Boxes:
    """One of SCINet's tables; `image_path` is relative to it. What was looked for and not detected is no box."""
    found: Boxes = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
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
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise DataError(f"{where}: not as SCINet writes it ({error!r}); see image_details.annotation") from error
        found[_below(root, path.parent, str(row["image_path"]), path)] = tuple(regions)
    return found


def read_boxes_csv(root: Path, labels: LabelMap) -> Boxes:
    """boxes.csv: one row a box. The same `lesion_id` in two pictures of one patient is the same lesion."""
    path = root / "boxes.csv"
    boxes: dict[str, list[Region]] = defaultdict(list)
    for row in read_csv(path, ("filename", "label", "x1", "y1", "x2", "y2")):
        where = f"{path}:{row.line}"
        region = _region(where, row["label"], [row[k] for k in ("x1", "y1", "x2", "y2")], labels, row.get("lesion_id"))
        state = row.get("state").strip().lower()
        if state and state not in STATES:
            raise row.error(f"state is '{state}'", f"write {', '.join(STATES)}, or leave it empty")
        region = region and replace(region, state=state)
        boxes[_below(root, root, row["filename"], path)] += [region] if region else []
    return {picture: tuple(regions) for picture, regions in boxes.items()}


def _region(where: str, name: str, corners: Sequence[Any], labels: LabelMap, lesion: str = "") -> Region | None:
    """A region with the task's label; None for one the label map leaves out."""
    try:
        target = labels.target(name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    try:
        x1, y1, x2, y2 = (float(v) for v in corners)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the box is '{corners}', not four numbers x1, y1, x2, y2") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        raise DataError(f"{where}: the box is empty: x {x1:g} to {x2:g}, y {y1:g} to {y2:g}; correct or remove it")
    if target is None or not any(target.values()):
        return None
    return Region(next(label for label, value in target.items() if value == 1), x1, y1, x2, y2, lesion)


def _below(root: Path, folder: Path, name: str, source: Path) -> str:
    """The path of a picture relative to the root, looked for beside the file that names it and in `images`."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{source}: '{name}' is no path below it; write picture paths relative to the file")
    base = PurePosixPath(folder.relative_to(root).as_posix())
    places = [base / relative, base / "images" / relative, base / relative.name, base / "images" / relative.name]
    found = next((p for p in places if (root / p).is_file()), places[0])
    return found.as_posix()


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `DataError` for one that is too large or not readable."""
    try:
        return json.loads(_bytes(path).decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable JSON ({error}); export it again") from error


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; split it")
    return path.read_bytes()
