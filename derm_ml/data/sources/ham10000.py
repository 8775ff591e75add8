"""HAM10000: `HAM10000_metadata.csv` (or `HAM10000_metadata`, as the archive names it) and folders of images.

    HAM10000_metadata.csv        lesion_id, image_id, dx, dx_type, age, sex, localization
    HAM10000_images/  or  HAM10000_images_part_1/ and HAM10000_images_part_2/

Several images show one lesion: `lesion_id` is kept, so that splits keep a lesion together. `dx` is kept as the
attribute `diagnosis`; by default mel, nv and bkl become melanoma, nevus and seborrheic_keratosis (bkl also holds
solar lentigines and lichen-planus like keratoses) and the other four diagnoses are left out and counted.

Source: Tschandl, Rosendahl, Kittler 2018, doi:10.1038/sdata.2018.161.
"""

from __future__ import annotations

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.csv_table import read_csv
from derm_ml.data.sources.image_files import by_stem, image_files, unlisted
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.text_files import shown
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

LESION_CLASSES = {
    "mel": "melanoma",
    "nv": "nevus",
    "bkl": "seborrheic_keratosis",
    "bcc": None,
    "akiec": None,
    "vasc": None,
    "df": None,
}
_LISTS = ("HAM10000_metadata.csv", "HAM10000_metadata")
_COLUMNS = ("lesion_id", "image_id", "dx", "age", "sex", "localization")


def recognise(tree: Tree, labels: LabelMap) -> bool:
    return any(tree.has_file(name) for name in _LISTS)


def read(tree: Tree, labels: LabelMap) -> Reading:
    """Read the list and every `HAM10000_images*` folder. Raises `DataError` for a list that is wrong."""
    path = next((tree.root / name for name in _LISTS if tree.has_file(name)), None)
    if path is None:
        raise DataError(f"{tree.root}: there is no HAM10000_metadata.csv; download it from the publisher")
    rows = read_csv(path, _COLUMNS, unique="image_id")
    folders = [folder for folder in tree.folders() if folder.startswith("HAM10000_images")]
    if not folders:
        raise DataError(f"{path} lists images, but no folder HAM10000_images is beside it; unpack the images there")
    files: list[str] = []
    problems: list[Problem] = []
    for folder in folders:
        found, odd = image_files(tree, folder, deep=True)
        files += found
        problems += odd
    images, doubled = by_stem(files)
    problems += [*doubled, *unlisted(images, {row["image_id"] for row in rows}, path.name)]
    names = labels.with_default(LESION_CLASSES)
    samples: list[Sample] = []
    left_out: dict[str, int] = {}
    set_aside: dict[str, str] = {}
    for row in rows:
        name, diagnosis = row["image_id"], row["dx"]
        about = attributes_of(row, site="localization") | {"diagnosis": diagnosis}
        target = names.target_at(row, diagnosis)
        if target is None:
            left_out[diagnosis] = left_out.get(diagnosis, 0) + 1
            set_aside |= {images[name]: f"its label {diagnosis} is left out"} if name in images else {}
        elif name not in images:
            problems.append(
                Problem(path.name, f"image {shown(name)} is not in {' or '.join(folders)}; add it", row.line)
            )
        else:
            samples.append(
                Sample(
                    name,
                    {"image": images[name]},
                    target,
                    lesion=row["lesion_id"],
                    attributes=about,
                    listed_in=path.name,
                    row=row.line,
                    named=diagnosis,
                )
            )
    return Reading(tuple(samples), tuple(problems), left_out, set_aside=set_aside)
