"""Photos with boxes (or without), and which of them are two visits of one patient.

Boxes are read from any of the formats of `box_files`. What belongs together is taken from, in this order:

* `pairs.csv`: first,second[,patient_id][,second_patient_id][,split][,age][,sex]
* `subjects.csv`: filename,subject: each photo of a person with the next one; no truth about conditions
* two SCINet tables with equally many rows: row k of the one (by file name) with row k of the other
* names of one export: `x.rf.<hash>.jpg` are versions of one photo x; if their boxes are as many and of the same
  labels, box i of one is box i of the other
* else every photo stands alone, as the first visit of a pair whose second is made in training and evaluation

A patient is one that a list names: two photos without one may show one person. Versions of one photo show the same
lesions, so they share a `lesion`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from derm_ml.asking.pair import ALONE, FIRST, SECOND, said_state
from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.box_files import read_boxes, scinet_rows
from derm_ml.data.sources.boxes import Boxes
from derm_ml.data.sources.csv_table import TableRow, read_csv
from derm_ml.data.sources.drawn_boxes import CLASS_LISTS
from derm_ml.data.sources.image_files import image_files
from derm_ml.data.sources.labels import LabelMap, LabelNames
from derm_ml.data.sources.split_names import SPLIT_NAMES, list_split
from derm_ml.data.sources.text_files import quoted, read_bytes, read_json
from derm_ml.records import DataError, Problem, Reading, Region, Sample
from derm_ml.tree import Tree

EXPECTED = (
    "photos with boxes (Pascal VOC, COCO, YOLO, LabelMe, CVAT, SCINet tables, boxes.csv), and pairs.csv or "
    "subjects.csv to say which belong together"
)
# what ACNE04's exporter calls them; papules and pustules turn into each other between visits
DEFAULT_NAMES: LabelNames = {
    "whitehead and blackhead": "comedone",
    "whiteheads and blackheads": "comedone",
    "blackhead": "comedone",
    "whitehead": "comedone",
    "papules": "pimple",
    "papule": "pimple",
    "pustules": "pimple",
    "pustule": "pimple",
    "nodules and cysts": "nodule",
    "nodules": "nodule",
    "cyst": "nodule",
    "scar": "other_scar",
}
_VERSION = re.compile(r"(.+?)(?:_(?:jpg|jpeg|png))?\.rf\.[0-9a-f]{8,}")
MOST_VERSIONS = 32  # of one photo: an exporter makes some five, and each is paired with each
LISTS = ("pairs.csv", "subjects.csv", "boxes.csv")


@dataclass(frozen=True, slots=True)
class _Pairing:
    first: str
    second: str
    patient: str = ""
    second_patient: str = ""
    split: str = ""
    row: TableRow | None = None
    by_order: bool = False  # box i of one is box i of the other
    lesion: str = ""


def recognise(tree: Tree, labels: LabelMap) -> bool:
    """Whether a list, or a file with boxes, lies in this very folder beside pictures (or a folder `images`), or its
    folders are those of Pascal VOC, COCO or YOLO."""
    if any(tree.has_file(name) for name in LISTS):
        return True
    tables = {*tree.files(deep=False, ending=".xml"), *tree.files(deep=False, ending=".json")} - {"source.json"}
    if tree.has_folder("Annotations") and tree.has_folder("JPEGImages"):
        return True
    coco = tree.has_folder("annotations") and bool(tree.files("annotations", ending=".json"))
    yolo = any(tree.has_file(name) for name in CLASS_LISTS) and bool(tree.files(ending=".txt"))
    return bool(tables or coco or yolo) and bool(image_files(tree, deep=True)[0])


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read boxes and pairings. Raises `DataError` for a file that is wrong, naming it and the row."""
    labels = labels.with_default(DEFAULT_NAMES)
    boxes, origin = read_boxes(tree, labels)
    splits = {picture: list_split(Path(file).stem) for picture, file in origin.items()} | _image_sets(tree)
    files, problems = image_files(tree, deep=True)
    there = set(files)
    problems += [
        Problem(file, "boxes are drawn for it, but the image is not there") for file in boxes if file not in there
    ]
    samples: list[Sample] = []
    used: set[str] = set()
    set_aside: dict[str, str] = {}
    for pairing in _pairings(tree, files, boxes):
        missing = next((f for f in (pairing.first, pairing.second) if f not in there), "")
        if missing:
            listed = pairing.row.path.name if pairing.row else missing
            problems.append(
                Problem(listed, f"photo {quoted(missing)} is not there", pairing.row.line if pairing.row else None)
            )
            continue
        used |= {pairing.first, pairing.second}
        samples.append(_pair(pairing, boxes, labels))
    for file in files:
        if file in boxes and file not in used and boxes[file]:
            samples.append(_single(file, boxes[file], labels))
        elif file in boxes and file not in used:
            set_aside[file] = "its list says that it has no boxes, and it is in no pair"
        elif file not in used:
            reason = "has no boxes and is in no pair; list it in pairs.csv or remove it"
            problems.append(Problem(file, reason, kind="unclaimed"))
    split = [replace(s, split=s.split or _one_split(s, splits)) for s in samples]
    return Reading(tuple(_named(split)), tuple(problems), set_aside=set_aside)


def _image_sets(tree: Tree) -> dict[str, str]:
    """Picture → its split, from VOC's lists of names (`ImageSets/Main/train.txt`)."""
    found = {}
    for name in tree.files(ending=".txt"):
        path = PurePosixPath(name)
        if "ImageSets" not in path.parts or path.stem not in SPLIT_NAMES:
            continue  # trainval.txt is both; pimple_train.txt says what is in a picture
        above = str(PurePosixPath(*path.parts[: path.parts.index("ImageSets")]) / "JPEGImages")
        names = {
            line.split()[0]
            for line in read_bytes(tree.root / name).decode("utf-8", "replace").splitlines()
            if line.split()
        }
        found |= {f: SPLIT_NAMES[path.stem] for f in tree.files(above, deep=False) if PurePosixPath(f).stem in names}
    return found


def _one_split(sample: Sample, splits: Mapping[str, str]) -> str:
    """The split of all its pictures; "" where they are in two or none."""
    found = {splits.get(file, "") for file in sample.files.values()}
    return found.pop() if len(found) == 1 else ""


def _pairings(tree: Tree, files: list[str], boxes: Boxes) -> Iterator[_Pairing]:
    there = frozenset(files)
    if tree.has_file("pairs.csv"):
        yield from _listed(tree, there)
    elif tree.has_file("subjects.csv"):
        yield from _series(tree, there)
    elif tables := _two_tables(tree):
        for a, b in zip(*tables, strict=True):
            first, second = (_find(path, there) for path in (a, b))
            yield _Pairing(first, second)
    else:
        yield from _versions(files, boxes)


def _listed(tree: Tree, files: Collection[str]) -> Iterator[_Pairing]:
    for row in read_csv(tree.root / "pairs.csv", ("first", "second")):
        split = row.get("split").lower()
        if split and split not in SPLIT_NAMES:
            raise row.error(f"split is '{quoted(split)}'", "write train, validation or test, or leave it empty")
        if not row["first"] or not row["second"] or row["first"] == row["second"]:
            raise row.error("a pair needs two different photos", "correct the row, or remove it")
        yield _Pairing(
            _find(row["first"], files),
            _find(row["second"], files),
            row.get("patient_id"),
            row.get("second_patient_id"),
            SPLIT_NAMES.get(split, ""),
            row,
        )


def _series(tree: Tree, files: Collection[str]) -> Iterator[_Pairing]:
    """Each photo of a person with their next one, and the last with the first: they differ most."""
    people: dict[str, list[TableRow]] = defaultdict(list)
    for row in read_csv(tree.root / "subjects.csv", ("filename", "subject"), unique="filename"):
        people[row["subject"]].append(row)
    for person, rows in people.items():
        ring = [*itertools.pairwise(rows), *([(rows[0], rows[-1])] if len(rows) > 2 else [])]
        for a, b in ring:
            yield _Pairing(_find(a["filename"], files), _find(b["filename"], files), person, person, row=a)


def _two_tables(tree: Tree) -> tuple[list[str], list[str]] | None:
    tables = []
    for name in tree.files(deep=False, ending=".json"):
        rows = scinet_rows(read_json(tree.root / name))
        if rows:
            tables.append([str(row["image_path"]) for row in rows])
    if len(tables) == 2 and len(tables[0]) != len(tables[1]):
        raise DataError(f"{tree.root}: its two tables have {len(tables[0])} and {len(tables[1])} rows; add a pairs.csv")
    return (tables[0], tables[1]) if len(tables) == 2 else None


def _versions(files: list[str], boxes: Boxes) -> Iterator[_Pairing]:
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if found := _VERSION.fullmatch(Path(file).stem):
            groups[found[1]].append(file)
    for name, versions in groups.items():
        if len(versions) > MOST_VERSIONS:
            raise DataError(
                f"{versions[0]}: {len(versions)} versions of one photo, at most {MOST_VERSIONS} are paired; "
                "say in a pairs.csv which belong together"
            )
        for a, b in itertools.combinations(sorted(versions), 2):
            labels = [[r.label for r in boxes.get(f, ())] for f in (a, b)]
            yield _Pairing(a, b, lesion=name, by_order=labels[0] == labels[1])


def _pair(pairing: _Pairing, boxes: Boxes, labels: LabelMap) -> Sample:
    regions = {role: boxes[file] for role, file in ((FIRST, pairing.first), (SECOND, pairing.second)) if file in boxes}
    if pairing.by_order:
        regions = {role: tuple(replace(r, id=str(k)) for k, r in enumerate(found)) for role, found in regions.items()}
    _agree(pairing, regions)
    attributes = attributes_of(pairing.row) if pairing.row else {}
    if pairing.second_patient:
        attributes = {**attributes, "second_patient": pairing.second_patient}
    return Sample(
        f"{Path(pairing.first).stem}+{Path(pairing.second).stem}",
        {FIRST: pairing.first, SECOND: pairing.second},
        _target(itertools.chain(*regions.values()), labels),
        patient=pairing.patient,
        lesion=pairing.lesion,
        split=pairing.split,
        attributes=attributes,
        regions=regions,
        listed_in=pairing.row.path.name if pairing.row else "",
        row=pairing.row.line if pairing.row else None,
    )


def _agree(pairing: _Pairing, regions: Mapping[str, tuple[Region, ...]]) -> None:
    """Raises `DataError` where a lesion is boxed in both photos and said to be gone, new or out of sight."""
    ids = [{r.id for r in regions.get(role, ()) if r.id} for role in (FIRST, SECOND)]
    for role, file, alone in zip((FIRST, SECOND), (pairing.first, pairing.second), ALONE, strict=True):
        for region in regions.get(role, ()):
            if region.id in ids[0] & ids[1] and (state := said_state(region, alone)):
                raise DataError(
                    f"{file}: lesion {region.id} is {state}, but both photos have a box of it; correct its state or id"
                )


def _single(file: str, regions: tuple[Region, ...], labels: LabelMap) -> Sample:
    version = _VERSION.fullmatch(Path(file).stem)
    lesion = version[1] if version else ""
    return Sample(Path(file).stem, {FIRST: file}, _target(regions, labels), lesion=lesion, regions={FIRST: regions})


def _target(regions, labels: LabelMap) -> dict[str, float]:
    """Which conditions a sample shows; a pair without boxes shows none that is known."""
    present = {region.label for region in regions}
    return {label: float(label in present) for label in labels.labels}


def _find(name: str, files: Collection[str]) -> str:
    wanted = name.replace("\\", "/")
    return next((f for f in (wanted, f"images/{wanted}", Path(wanted).name) if f in files), wanted)


def _named(samples: list[Sample]) -> Iterator[Sample]:
    """Short ids that fit into an archive's 100 characters, and are unique."""
    seen: set[str] = set()
    latest: Counter[str] = Counter()  # the number each short name has come to, so that none is tried twice
    for sample in samples:
        short = name = "+".join(_VERSION.sub(lambda m: m[1], part) for part in sample.id.split("+"))
        while name in seen:
            latest[short] += 1
            name = f"{short}.{latest[short] + 1}"
        seen.add(name)
        yield replace(sample, id=name)
