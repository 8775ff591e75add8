"""The official ISIC 2017 layout, part 3 (melanoma / seborrheic keratosis / nevus).

    ISIC-2017_Training_Data/ISIC_0000000.jpg …      ISIC-2017_Training_Part3_GroundTruth.csv
    ISIC-2017_Validation_Data/ …                    ISIC-2017_Validation_Part3_GroundTruth.csv
    ISIC-2017_Test_v2_Data/ … (or Test_Data)        ISIC-2017_Test_v2_Part3_GroundTruth.csv

Ground truth: image_id, melanoma, seborrheic_keratosis (0 or 1, a nevus being neither). Optional, beside or inside
the image folder: `…_Data_metadata.csv` with image_id, age_approximate, sex. Official splits are kept; any of the
three may be absent. Superpixel and segmentation files beside the images are no images of their own.

Source: Codella et al. 2018, arXiv 1710.05006.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.csv_table import Row, read_csv
from derm_ml.data.sources.image_files import by_stem, image_files, unlisted
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.text_files import shown
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

PARTS = {"Training": "train", "Validation": "validation", "Test": "test", "Test_v2": "test"}
_COMPANIONS = ("_superpixels", "_segmentation")


def recognise(tree: Tree, labels: LabelMap) -> bool:
    return any(tree.has_folder(f"ISIC-2017_{part}_Data") or tree.has_file(_truth(part)) for part in PARTS)


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read all parts that are there. Raises `DataError` for a part without its list, or a list that is wrong."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    left_out: dict[str, int] = {}
    set_aside = _of_other_parts(tree)
    for part, split in PARTS.items():
        folder, truth = f"ISIC-2017_{part}_Data", tree.root / _truth(part)
        if not tree.has_folder(folder) and not tree.has_file(truth.name):
            continue
        if not tree.has_file(truth.name):
            raise DataError(
                f"{tree.root / folder} has no ground truth; put {truth.name} beside it, or remove the folder"
            )
        if not tree.has_folder(folder):
            raise DataError(f"{truth} lists images, but the folder {folder} is not there; unpack it beside the list")
        rows = read_csv(truth, ("image_id", "melanoma", "seborrheic_keratosis"), unique="image_id")
        files, odd = image_files(tree, folder, deep=True)
        images, doubled = by_stem([f for f in files if not Path(f).stem.endswith(_COMPANIONS)])
        metadata = read_metadata([tree.root / name for name in metadata_of(folder) if tree.has_file(name)])
        ids = {row["image_id"] for row in rows}
        problems += [*odd, *doubled, *unlisted(images, ids, truth.name)]
        for row in rows:
            name, diagnosis = row["image_id"], _diagnosis(row)
            about = attributes_of(metadata[name], age="age_approximate") if name in metadata else {}
            target = labels.target_at(row, diagnosis)
            if target is None:
                left_out[diagnosis] = left_out.get(diagnosis, 0) + 1
                set_aside |= {images[name]: f"its label {diagnosis} is left out"} if name in images else {}
            elif name not in images:
                problems.append(Problem(truth.name, f"image {shown(name)} is not in {folder}; add it", row.line))
            else:
                about["diagnosis"] = diagnosis
                samples.append(
                    Sample(
                        name,
                        {"image": images[name]},
                        target,
                        split=split,
                        attributes=about,
                        listed_in=truth.name,
                        row=row.line,
                        named=diagnosis,
                    )
                )
        problems += [
            Problem(row.path.relative_to(tree.root).as_posix(), f"image {shown(name)} has no ground truth", row.line)
            for name, row in metadata.items()
            if name not in ids
        ]
    return Reading(tuple(samples), tuple(problems), left_out, set_aside=set_aside)


def _of_other_parts(tree: Tree) -> dict[str, str]:
    """Masks, superpixels and other files of the same publication that are no images of this part."""
    found = {}
    for folder in tree.folders():
        if folder.startswith("ISIC-2017_"):
            own = folder.endswith("_Data")
            for file in image_files(tree, folder, deep=True)[0]:
                if not own or Path(file).stem.endswith(_COMPANIONS):
                    found[file] = "a mask or superpixel file of ISIC 2017, for which this part has no use"
    return found


def _truth(part: str) -> str:
    return f"ISIC-2017_{part}_Part3_GroundTruth.csv"


def _diagnosis(row: Row) -> str:
    flags = {}
    for name in ("melanoma", "seborrheic_keratosis"):
        flags[name] = row.number(name, 0, 1)
        if flags[name] not in (0, 1):
            raise row.error(f"{name} is '{shown(row[name])}'", "write 0 or 1")
    if all(flags.values()):
        raise row.error("the image is melanoma and seborrheic keratosis at once", "set one of them to 0")
    return next((name for name, flag in flags.items() if flag), "nevus")


def metadata_of(folder: str) -> tuple[str, str]:
    """Where the facts of an image folder may be: inside it (as zipped) or beside it."""
    return f"{folder}/{folder}_metadata.csv", f"{folder}_metadata.csv"


def read_metadata(paths: Sequence[Path]) -> dict[str, Row]:
    """Image id → its row, from the first of these files; empty if there is none."""
    rows = read_csv(paths[0], ("image_id", "age_approximate", "sex"), unique="image_id") if paths else []
    return {row["image_id"]: row for row in rows}
