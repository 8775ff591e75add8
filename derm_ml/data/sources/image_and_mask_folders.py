"""A folder of pictures beside a folder of their masks: `x.jpg` belongs to `x_segmentation.png` (or `x_mask`, `x`).

    ISIC-2017_Training_Data/ …         ISIC-2017_Training_Part1_GroundTruth/ …      official, as are Validation, Test_v2
    ISIC2018_Task1-2_Training_Input/ … ISIC2018_Task1_Training_GroundTruth/ …       official, as are Validation, Test
    images/ …                         masks/ …                                    one's own; or train|val|test/images/ …

Optional: `split.csv` (or any `*_split.csv`) with the column `image_id` and a last column of train, val, test, or none
for pictures that may go anywhere; it wins over the folders' own splits.

Rulings. Superpixel files (`x_superpixels.png`) are neither picture nor mask and are passed over. A picture without a
mask and a mask without a picture are problems. What is in a mask is ruled on when it is decoded (`decode_mask`):
several equal channels, a palette or 0/1 are read, colours, transparency and grey values are refused. An empty mask
is kept: it says that there is no lesion; a data rule counts them.

Source: Codella et al. 2018, arXiv 1710.05006 (part 1); Codella et al. 2019, arXiv 1902.03368 (task 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from derm_ml.data.sources.class_folders import SPLIT_NAMES
from derm_ml.data.sources.csv_table import read_csv
from derm_ml.data.sources.image_files import by_stem, image_files
from derm_ml.data.sources.labels import LabelMap, normal
from derm_ml.data.sources.text_files import shown, some
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

IMAGE_FOLDERS = ("images", "image", "imgs", "input", "inputs")
MASK_FOLDERS = ("masks", "mask", "segmentations", "ground_truth", "groundtruth")
MASK_ENDINGS = ("_segmentation", "_mask", "_lesion")
SUPERPIXELS = "_superpixels"
EXPECTED = "a folder of images beside a folder of masks (the official ISIC folders, or images/ and masks/)"
_PARTS = {"Training": "train", "Validation": "validation", "Test_v2": "test", "Test": "test"}


@dataclass(frozen=True, slots=True)
class _Pair:
    images: str
    masks: str
    split: str  # "" where the folders do not say


def recognise(tree: Tree, labels: LabelMap) -> bool:
    return any(True for _ in _pairs(tree))


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read every pair of folders. Raises `DataError` for a folder without its partner, or a list that is wrong."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    found = list(_pairs(tree))
    listed, list_name = _listed_splits(tree)
    target = dict.fromkeys(labels.labels, 1.0)
    for pair in found:
        for folder, partner in ((pair.images, pair.masks), (pair.masks, pair.images)):
            if not tree.has_folder(folder):
                raise DataError(
                    f"{tree.root / partner} is there but {folder} is not; put it beside, or remove {partner}"
                )
        images, odd_images = _stems(tree, pair.images)
        masks, odd_masks = _stems(tree, pair.masks)
        problems += [*odd_images, *odd_masks]
        example = f"{next(iter(images), 'x')}_segmentation.png"
        for stem, image in images.items():
            if stem in masks:
                split = listed.get(stem, pair.split)
                samples.append(Sample(stem, {"image": image, "mask": masks[stem]}, target, split=split))
            else:
                problems.append(Problem(image, f"has no mask in {pair.masks}; add one named like {example}"))
        problems += [
            Problem(mask, f"has no image in {pair.images}; add it, or remove the mask")
            for stem, mask in masks.items()
            if stem not in images
        ]
    known = {sample.id for sample in samples} | {Path(problem.file).stem for problem in problems}
    problems += [
        Problem(list_name, f"image {shown(name)} is listed but not there") for name in sorted(listed.keys() - known)
    ]
    folders = {folder for pair in found for folder in (pair.images, pair.masks)}
    set_aside = {
        file: "a superpixel file, which is neither image nor mask"
        for folder in folders
        for file in image_files(tree, folder, deep=True)[0]
        if Path(file).stem.lower().endswith(SUPERPIXELS)
    }
    return Reading(tuple(samples), tuple(problems), set_aside=set_aside)


def _pairs(tree: Tree) -> Iterator[_Pair]:
    """Official folders, of which one of the two may be missing; then one's own, of which both must be there."""
    for part, split in _PARTS.items():
        official = [(f"ISIC-2017_{part}_Data", f"ISIC-2017_{part}_Part1_GroundTruth")]
        official += [(f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth")]
        for images, masks in official:
            if tree.has_folder(images) or tree.has_folder(masks):
                yield _Pair(images, masks, split)
    inside = [(folder, SPLIT_NAMES[normal(folder)]) for folder in tree.folders() if normal(folder) in SPLIT_NAMES]
    for prefix, split in [("", ""), *inside]:
        names = {normal(PurePosixPath(folder).name): folder for folder in tree.folders(prefix)}
        images = next((names[name] for name in IMAGE_FOLDERS if name in names), "")
        masks = next((names[name] for name in MASK_FOLDERS if name in names), "")
        if images and masks:
            yield _Pair(images, masks, split)


def _stems(tree: Tree, folder: str) -> tuple[dict[str, str], list[Problem]]:
    """Id → path of the pictures or masks of a folder, without superpixels and without a mask's ending."""
    files, odd = image_files(tree, folder)
    paths, doubled = by_stem([file for file in files if not Path(file).stem.lower().endswith(SUPERPIXELS)])
    found: dict[str, str] = {}
    for stem, path in paths.items():
        name = next((stem[: -len(end)] for end in MASK_ENDINGS if stem.lower().endswith(end)), stem)
        if name in found:
            doubled.append(Problem(path, f"is a second mask beside {found[name]}; keep one of the two"))
        else:
            found[name] = path
    return found, [*odd, *doubled]


def _listed_splits(tree: Tree) -> tuple[dict[str, str], str]:
    """Id → split ("" for none) from the list beside the folders, and its name; empty where there is no list."""
    tables = tree.files(deep=False, ending=".csv")
    lists = [name for name in tables if name == "split.csv" or name.endswith("_split.csv")]
    if len(lists) > 1:
        raise DataError(f"{tree.root} has several lists of splits ({some(lists)}); keep one")
    if not lists:
        return {}, ""
    splits: dict[str, str] = {}
    for row in read_csv(tree.root / lists[0], ("image_id",), unique="image_id"):
        column = list(row.values)[-1]
        value = row.get(column)  # "" for none
        if value and normal(value) not in SPLIT_NAMES:
            raise row.error(f"{column} is '{shown(value)}'", "write train, val, test or none")
        splits[row["image_id"]] = SPLIT_NAMES[normal(value)] if value else ""
    return splits, lists[0]
