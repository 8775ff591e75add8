"""A folder of pictures beside a folder of their masks: `x.jpg` belongs to `x_segmentation.png` (or `x_mask`, `x`).

    ISIC-2017_Training_Data/ …         ISIC-2017_Training_Part1_GroundTruth/ …      official, as are Validation, Test_v2
    ISIC2018_Task1-2_Training_Input/ … ISIC2018_Task1_Training_GroundTruth/ …       official, as are Validation, Test
    ISBI2016_ISIC_Part1_Training_Data/ … ISBI2016_ISIC_Part1_Training_GroundTruth/  official, as is Test
    ISBI2016_ISIC_Part3B_Training_Data/: images and their masks in one folder       official, as is Test
    HAM10000_images_part_1/ …          HAM10000_segmentations_lesion_tschandl/ …    all image folders with one of masks
    PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/ …   and IMD003_lesion/ …    PH²
    images/ …                          masks/ …                                    one's own; or train|val|test/images/

Both folders may have folders below them (`images/part2/`, `masks/part2/`, or `train`, `val` and `test`, which are
splits): where two pictures share a name, picture and mask must lie in folders of one name.

Optional: `split.csv` (or any `*_split.csv`) with the column `image_id` and a last column of train, val, test, or none
for pictures that may go anywhere; it wins over the folders' own splits. `HAM10000_metadata` says which pictures show
one lesion, and age, sex and site.

Rulings. Superpixel files (`x_superpixels.png`) are neither picture nor mask and are passed over. A picture without a
mask and a mask without a picture are problems. What is in a mask is ruled on when it is decoded (`decode_mask`):
several equal channels, a palette or 0/1 are read, colours, transparency and grey values are refused. An empty mask
is kept: it says that there is no lesion; a data rule counts them.

Source: Codella et al. 2018, arXiv 1710.05006 (part 1); Codella et al. 2019, arXiv 1902.03368 (task 1); Mendonça et al.
2013, doi:10.1109/EMBC.2013.6610779 (PH²).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.csv_table import TableRow, read_csv
from derm_ml.data.sources.image_files import distinct_ids, image_files
from derm_ml.data.sources.image_index import same_bytes
from derm_ml.data.sources.labels import LabelMap, normal
from derm_ml.data.sources.split_names import SPLIT_NAMES, folder_split
from derm_ml.data.sources.text_files import quoted, some
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

IMAGE_FOLDERS = ("images", "image", "imgs", "input", "inputs")
MASK_FOLDERS = ("masks", "mask", "segmentations", "ground_truth", "groundtruth")
MASK_ENDINGS = ("_segmentation", "_mask", "_lesion")
SUPERPIXELS = "_superpixels"
EXPECTED = (
    "a folder of images beside a folder of masks (the official ISIC folders, HAM10000 with its masks, PH², or images/ "
    "and masks/)"
)
_PARTS = {"Training": "train", "Validation": "validation", "Test_v2": "test", "Test": "test"}


_HAM_MASKS = "HAM10000_segmentations_lesion_tschandl"
_HAM_LISTS = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
_PH2 = "PH2 Dataset images"
# folders of the same publications, at any depth, that hold neither images nor masks of lesions
_OTHERS = {
    "*_roi": "a mask of colours, not of the lesion",
    "ISIC2018_Task2_*": "a mask of task 2",
    "ISIC2018_Task3_*": "an image of task 3, which has no masks",
    "ISBI2016_ISIC_Part2_*": "an image or mask of part 2",
    "ISBI2016_ISIC_Part2B_*": "an image or mask of part 2B",
    "ISBI2016_ISIC_Part3_*": "an image of part 3, which has no masks",
}


@dataclass(frozen=True, slots=True)
class _Pair:
    images: tuple[str, ...]  # folders; usually one
    masks: tuple[str, ...]
    split: str  # "" where the folders do not say


def recognise(tree: Tree, labels: LabelMap) -> bool:
    return any(True for _ in _pairs(tree))


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read every pair of folders. Raises `DataError` for a folder without its partner, or a list that is wrong."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    set_aside = {file: what for ending, what in _OTHERS.items() for file in _in_folders(tree, ending)}
    found = list(_pairs(tree))
    listed, list_name = _listed_splits(tree)
    about = _lesions(tree)
    target = dict.fromkeys(labels.labels, 1.0)
    first: dict[str, str] = {}  # stem → the image of an earlier pair
    for pair in found:
        images, masks, odd = _matched(tree, pair, set_aside)
        problems += odd
        for name in _read_before(tree, images, first):
            copy = f"a copy of an image in {PurePosixPath(first[Path(images[name]).stem]).parent}"
            set_aside |= dict.fromkeys([images.pop(name), *([masks.pop(name)] if name in masks else [])], copy)
        if images or masks:  # a test set's first release may lie there without masks: its images are the second's
            _require_partners(tree, pair)
        where = [" or ".join(folders[:3]) for folders in (pair.images, pair.masks)]
        example = f"{Path(next(iter(images.values()), 'x')).stem}_segmentation.png"
        for name, image in images.items():
            stem = Path(image).stem
            if name in masks:
                split = listed.get(stem, pair.split)
                files = {"image": image, "mask": masks[name]}
                row = about.get(stem)
                known = {"lesion": row.get("lesion_id"), "attributes": attributes_of(row)} if row else {}
                samples.append(Sample(stem, files, target, split=split, **known))
            else:
                problems.append(Problem(image, f"has no mask in {where[1]}; add one named like {example}"))
        problems += [
            Problem(mask, f"has no image in {where[0]}; add it, or remove the mask")
            for name, mask in masks.items()
            if name not in images
        ]
    known = {sample.id for sample in samples} | {Path(problem.file).stem for problem in problems}
    problems += [
        Problem(list_name, f"image {quoted(name)} is listed but not there") for name in sorted(listed.keys() - known)
    ]
    ids = distinct_ids([sample.files["image"] for sample in samples])
    named = tuple(replace(sample, id=name) for sample, name in zip(samples, ids, strict=True))
    return Reading(named, tuple(problems), set_aside=set_aside)


def _pairs(tree: Tree) -> Iterator[_Pair]:
    """Official folders, of which one of the two may be missing; then one's own, of which both must be there."""
    for part, split in _PARTS.items():
        official = [(f"ISIC-2017_{part}_Data", f"ISIC-2017_{part}_Part1_GroundTruth")]
        official += [(f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth")]
        official += [(f"ISBI2016_ISIC_Part1_{part}_Data", f"ISBI2016_ISIC_Part1_{part}_GroundTruth")]
        official += [(f"ISBI2016_ISIC_Part3B_{part}_Data", f"ISBI2016_ISIC_Part3B_{part}_Data")]
        for images, masks in official:
            if tree.has_folder(images) or tree.has_folder(masks):
                yield _Pair((images,), (masks,), split)
    if ham := _ham10000(tree):
        yield ham
    if tree.has_folder(_PH2):
        inner = tree.folders(_PH2, deep=True)
        images = tuple(folder for folder in inner if folder.endswith("_Dermoscopic_Image"))
        yield _Pair(images, tuple(folder for folder in inner if folder.endswith("_lesion")), "")
    inside = [(folder, split) for folder in tree.folders() if (split := folder_split(PurePosixPath(folder).name))]
    for prefix, split in [("", ""), *inside]:
        names = {normal(PurePosixPath(folder).name): folder for folder in tree.folders(prefix)}
        images = next((names[name] for name in IMAGE_FOLDERS if name in names), "")
        masks = next((names[name] for name in MASK_FOLDERS if name in names), "")
        if images and masks:
            yield _Pair((images,), (masks,), split)


def _in_folders(tree: Tree, pattern: str) -> list[str]:
    folders = [folder for folder in tree.folders(deep=True) if PurePosixPath(folder).match(pattern)]
    return [file for folder in folders for file in image_files(tree, folder, deep=True)[0]]


def _ham10000(tree: Tree) -> _Pair | None:
    """HAM10000's image folders, or one `images`, with the masks that were drawn for them later."""
    folders = tree.folders()
    masks = tuple(folder for folder in folders if folder.startswith(_HAM_MASKS))
    images = tuple(folder for folder in folders if folder.lower().startswith("ham10000_images"))
    images = images or tuple(folder for folder in folders if normal(folder) in (*IMAGE_FOLDERS, "all_images"))
    return _Pair(images, masks, "") if masks and images else None


def _lesions(tree: Tree) -> dict[str, TableRow]:
    """Image id → its row in HAM10000's list, where that lies beside the folders."""
    name = next((name for name in _HAM_LISTS if tree.has_file(name)), "")
    rows = read_csv(tree.root / name, ("image_id",), unique="image_id", any_separator=True) if name else []
    return {row["image_id"]: row for row in rows}


def _matched(
    tree: Tree, pair: _Pair, set_aside: dict[str, str]
) -> tuple[dict[str, str], dict[str, str], list[Problem]]:
    """Images and masks of a pair of folders by the name they share: their stem, or their path where stems repeat."""
    found = []
    problems: list[Problem] = []
    together = pair.images == pair.masks
    for folders in (pair.images, pair.masks):
        files: list[tuple[str, str]] = []
        for folder in folders:
            some, odd = image_files(tree, folder, deep=True)
            problems += [problem for problem in odd if problem not in problems]
            for file in some:
                if together and _is_mask(file) == (folders is pair.images):
                    continue  # images and masks lie in one folder and are told by their names
                if Path(file).stem.lower().endswith(SUPERPIXELS):
                    set_aside[file] = "a superpixel file, which is neither image nor mask"
                else:
                    files.append((file[len(folder) + 1 :], file))
        found.append(files)
    images, masks = found
    copies = _copies(tree, images)
    set_aside |= copies
    images = [(inner, file) for inner, file in images if file not in copies]
    by_path = any(
        len({PurePosixPath(inner).parent for inner in same}) > 1
        for files in (images, masks)
        for same in _by_stem([inner for inner, _ in files]).values()
    )
    named, odd_images = _names(images, by_path, ())
    drawn, odd_masks = _names(masks, by_path, MASK_ENDINGS)
    return named, drawn, [*problems, *odd_images, *odd_masks]


def _require_partners(tree: Tree, pair: _Pair) -> None:
    """Raises `DataError` for a folder of images without one of masks, and the other way round."""
    for folders, partners in ((pair.images, pair.masks), (pair.masks, pair.images)):
        for folder in folders:
            if not tree.has_folder(folder):
                raise DataError(
                    f"{tree.root / partners[0]} is there but {folder} is not; put it beside, or remove {partners[0]}"
                )


def _read_before(tree: Tree, images: dict[str, str], first: dict[str, str]) -> list[str]:
    """The names of images that an earlier pair of folders holds too, as two test sets or two parts of one year do."""
    return [
        name
        for name, image in images.items()
        if (before := first.setdefault(Path(image).stem, image)) != image and same_bytes(tree, before, image)
    ]


def _is_mask(file: str) -> bool:
    return Path(file).stem.lower().endswith(MASK_ENDINGS)


def _copies(tree: Tree, images: list[tuple[str, str]]) -> dict[str, str]:
    """The images that several folders hold alike, as mirrors have them in two spellings of a folder's name."""
    first: dict[str, str] = {}
    found = {}
    for inner, file in images:
        before = first.setdefault(inner, file)
        if before != file and same_bytes(tree, before, file):
            found[file] = f"a copy of an image in {PurePosixPath(before).parent}"
    return found


def _by_stem(paths: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(Path(path).stem, []).append(path)
    return found


def _names(
    files: list[tuple[str, str]], by_path: bool, endings: tuple[str, ...]
) -> tuple[dict[str, str], list[Problem]]:
    """Shared name → path, without a mask's ending; a second file of one name is a problem."""
    found: dict[str, str] = {}
    problems = []
    for inner, file in files:
        path = PurePosixPath(inner)
        stem = next((path.stem[: -len(end)] for end in endings if path.stem.lower().endswith(end)), path.stem)
        name = str(path.with_name(stem)) if by_path else stem
        if name in found:
            what = "is a second mask beside" if endings else "has the same name as"
            problems.append(Problem(file, f"{what} {found[name]}; keep one of the two"))
        else:
            found[name] = file
    return found, problems


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
            raise row.error(f"{column} is '{quoted(value)}'", "write train, val, test or none")
        splits[row["image_id"]] = SPLIT_NAMES[normal(value)] if value else ""
    return splits, lists[0]
