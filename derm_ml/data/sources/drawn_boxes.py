"""Boxes as YOLO, LabelMe and CVAT write them; a polygon counts as the box around it.

* YOLO: a .txt for each picture, beside it or in `labels` for `images`: class, x and y of the centre, width and height
  as shares of the picture. The names of the classes are in data.yaml (Ultralytics, Roboflow) or classes.txt
* LabelMe: a .json for each picture with `shapes` and `imagePath`
* CVAT for images 1.1: one .xml with `image` and its `box` and `polygon`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import yaml

from derm_ml.data.sources.boxes import Boxes, frame_said, region_of
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.pictures_of_boxes import Pictures
from derm_ml.data.sources.text_files import quoted, read_bytes
from derm_ml.images.decode import IMAGE_EXTENSIONS, ImageError, orientation_and_size, read_image_file
from derm_ml.records import DataError
from derm_ml.tree import Tree

CLASS_LISTS = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names", "_darknet.labels", "labels/classes.txt")


def class_names(tree: Tree) -> tuple[str, list[str]] | None:
    """(file, names of the classes in their order) of a YOLO folder, or None for a folder that is none."""
    name = next((name for name in CLASS_LISTS if tree.has_file(name)), "")
    if not name:
        return None
    path = tree.root / name
    text = _text(path, read_bytes(path))
    if not name.endswith(".yaml"):
        return name, [line.strip() for line in text.splitlines() if line.strip()]
    try:
        names = (yaml.safe_load(text) or {}).get("names")
    except (yaml.YAMLError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not readable YAML; export it again") from error
    if isinstance(names, Mapping):  # {0: pimple, 1: comedone}
        names = [names[number] for number in sorted(names)]
    return (name, [str(one) for one in names]) if isinstance(names, list) else None


def read_yolo(pictures: Pictures, labels: LabelMap) -> Iterator[tuple[str, Boxes]]:
    """(label file, boxes of its picture) of a YOLO folder; a picture whose file is empty has none.

    Raises `DataError` naming the file and the line that is wrong.
    """
    tree = pictures.tree
    found = class_names(tree)
    if found is None:
        return
    images = {_key(file): file for file in tree.files() if PurePosixPath(file).suffix.lower() in IMAGE_EXTENSIONS}
    for name in tree.files(ending=".txt"):
        picture = images.get(_key(name))
        if picture is None or name == found[0]:
            continue  # a list, a licence: no picture has its name
        yield name, {picture: tuple(_yolo_regions(tree, name, picture, found, labels))}


def _yolo_regions(tree: Tree, name: str, picture: str, classes: tuple[str, list[str]], labels: LabelMap):
    path = tree.root / name
    lines = [line.split() for line in _text(path, read_bytes(path)).splitlines()]
    width, height = _upright_size(tree, picture) if any(lines) else (0, 0)
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        where = f"{path}:{number}"
        numbers: list[float] = []
        try:
            numbers = [float(value) for value in line]
            label = classes[1][int(numbers[0])] if numbers[0] >= 0 else ""
        except (ValueError, IndexError, OverflowError):
            label = ""
        if not label:
            raise DataError(f"{where}: '{quoted(line[0])}' is no class of {classes[0]}; export it again")
        yield from region_of(where, label, _yolo_corners(where, numbers[1:], width, height), labels)


def _yolo_corners(where: str, shares: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    if len(shares) == 4:
        x, y, across, down = shares
        x1, y1, x2, y2 = x - across / 2, y - down / 2, x + across / 2, y + down / 2
    elif len(shares) >= 6 and len(shares) % 2 == 0:
        x1, y1, x2, y2 = _around(list(zip(shares[::2], shares[1::2], strict=True)))
    else:
        raise DataError(
            f"{where}: {len(shares)} numbers behind the class; a box has 4, a polygon an even number from 6"
        )
    return x1 * width, y1 * height, x2 * width, y2 * height


def _upright_size(tree: Tree, picture: str) -> tuple[int, int]:
    """(width, height) in pixels; (1, 1) for a picture that cannot be read: it is quarantined when it is decoded."""
    try:
        orientation, (width, height) = orientation_and_size(read_image_file(tree.root / picture))
    except ImageError:
        return 1, 1
    return (height, width) if orientation >= 5 else (width, height)


def is_labelme(table: Any) -> bool:
    return isinstance(table, dict) and {"shapes", "imagePath"} <= set(table)


def read_labelme(pictures: Pictures, name: str, table: Mapping[str, Any], labels: LabelMap) -> Boxes:
    """One LabelMe file. Raises `DataError` naming the shape that is wrong."""
    path = pictures.tree.root / name
    frame = frame_said(table.get("imageWidth"), table.get("imageHeight"))
    own = str(table["imagePath"]).replace("\\", "/").rpartition("/")[2]  # another computer's folders mean nothing here
    picture = pictures.below(name, own, str(path))
    regions = []
    shapes: list[Any] = table["shapes"] if isinstance(table["shapes"], list) else [None]
    for number, shape in enumerate(shapes, start=1):
        where = f"{path}: shape {number}"
        try:
            corners = _around([(float(x), float(y)) for x, y in shape["points"]])
            regions += region_of(where, shape["label"], corners, labels, frame=frame)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: not as LabelMe writes it ({quoted(repr(error))}); export it again") from error
    return {picture: tuple(regions)}


def read_cvat(pictures: Pictures, name: str, root: Element, labels: LabelMap) -> Boxes:
    """One file of CVAT's format for images. Raises `DataError` naming the image whose shape is wrong."""
    path = pictures.tree.root / name
    found: Boxes = {}
    for image in root.findall("image"):
        where = f"{path}: image {quoted(image.get('name', ''))}"
        frame = frame_said(image.get("width"), image.get("height"))
        regions = []
        for shape in image:
            if shape.tag == "box":
                corners = [shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")]
            elif shape.tag in ("polygon", "polyline", "mask") and shape.get("points"):
                corners = _around([_point(where, pair) for pair in shape.get("points", "").split(";")])
            else:
                continue  # a tag of the image, a point
            regions += region_of(where, shape.get("label") or "", corners, labels, frame=frame)
        found[pictures.below(name, image.get("name"), where)] = tuple(regions)
    return found


def _point(where: str, text: str) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in text.split(","))
    except ValueError:
        raise DataError(f"{where}: the point is '{quoted(text)}', not x,y; export it again") from None
    return x, y


def _around(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)


def _key(file: str) -> str:
    """What a picture and its label file share: the path without ending, `images` or `labels` being one."""
    path = PurePosixPath(file).with_suffix("")
    parts = ["labels" if part == "images" else part for part in path.parts[:-1]]
    return "/".join([*(part for part in parts if part != "labels"), path.name])


def _text(path: Any, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; export it again") from None
