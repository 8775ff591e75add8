"""How the time to read a raw folder grows with its rows: a slope of 1 is linear, of 2 quadratic.

    TMPDIR=/dev/shm python benchmarks/reading.py --rows 4000 16000 64000      # a disk in memory, where there is one

Each layout is laid out with empty files (a reader looks at names and lists, not at pixels) in the way that is hardest
for it: file names that repeat in several folders, lists that name images by their name alone. CPU seconds of one
reading, and the slope of log(seconds) over log(rows) between the smallest and the largest.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from derm_ml.data.sources import LAYOUTS, MASK_LAYOUTS, PAIR_LAYOUTS, read_source

LABELS = ("benign", "malignant")
CLASSES = ("melanoma", "nevus", "seborrheic_keratosis")
EVERYTHING = {**LAYOUTS, **MASK_LAYOUTS, **PAIR_LAYOUTS}


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def class_folders(root: Path, n: int) -> None:
    """Numbered from 1 in both splits, as Kaggle's sets are: every name is there twice."""
    for split in ("train", "test"):
        touch(root, (f"{split}/{LABELS[k % 2]}/{k}.jpg" for k in range(n // 2)))


def csv_list(root: Path, n: int) -> None:
    names = [f"{folder}/{k}.jpg" for folder in "ab" for k in range(n // 2)]
    touch(root, names)
    write(root / "labels.csv", "filename,label", ((name, LABELS[k % 2]) for k, name in enumerate(names)))


def findings_table(root: Path, n: int) -> None:
    touch(root, (f"train/{k}_left.jpg" for k in range(n)))
    rows = ((f"{k}_left.jpg", k, "left", k % 2, k % 3 // 2) for k in range(n))
    write(root / "train.csv", "filename,patient_id,eye,glaucoma,opacity", rows)


def ham10000(root: Path, n: int) -> None:
    touch(root, (f"HAM10000_images_part_{1 + k % 2}/ISIC_{k:07d}.jpg" for k in range(n)))
    rows = ((f"HAM_{k}", f"ISIC_{k:07d}", "nv", "histo", 50, "male", "back") for k in range(n))
    write(root / "HAM10000_metadata.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization", rows)


def isic2017(root: Path, n: int) -> None:
    touch(root, (f"ISIC-2017_Training_Data/ISIC_{k:07d}.jpg" for k in range(n)))
    rows = ((f"ISIC_{k:07d}", k % 2, 0) for k in range(n))
    write(root / "ISIC-2017_Training_Part3_GroundTruth.csv", "image_id,melanoma,seborrheic_keratosis", rows)


def image_and_mask_folders(root: Path, n: int) -> None:
    touch(root, (f"images/{k}.jpg" for k in range(n // 2)))
    touch(root, (f"masks/{k}_segmentation.png" for k in range(n // 2)))


def visits_of_subjects(root: Path, n: int) -> None:
    """Photos of three visits, listed by name, with a box each; the pairs of all people get the same short id."""
    names = [f"images/face_jpg.rf.{k:08x}.jpg" for k in range(n)]
    touch(root, names)
    write(root / "subjects.csv", "filename,subject", ((Path(name).name, k // 3) for k, name in enumerate(names)))
    rows = ((Path(name).name, "benign", 1, 2, 3, 4) for name in names)
    write(root / "boxes.csv", "filename,label,x1,y1,x2,y2", rows)


def visits_of_coco(root: Path, n: int) -> None:
    touch(root, (f"images/{k}.jpg" for k in range(n)))
    table = {
        "images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(n)],
        "categories": [{"id": 1, "name": "benign"}],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 2, 3, 4]} for k in range(n)],
    }
    (root / "boxes.json").write_text(json.dumps(table))


def sets_beside_each_other(root: Path, n: int) -> None:
    """Two published sets and ten folders of one's own in one folder, with a list and a sidecar each; ids repeat."""
    ham10000(root, n // 4)
    isic2017(root, n // 4)
    for k in range(10):
        touch(root, (f"clinic_{k}/{CLASSES[j % 3]}/{j}.jpg" for j in range(n // 20)))
        touch(root, (f"clinic_{k}/notes.csv", f"clinic_{k}/IMG_1.AAE"))


CASES: dict[str, tuple[str, Callable[[Path, int], None], tuple[str, ...]]] = {
    "class folders, names repeat": ("class_folders", class_folders, LABELS),
    "CSV list, names repeat": ("csv_list", csv_list, LABELS),
    "table of findings": ("findings_table", findings_table, ()),
    "HAM10000": ("ham10000", ham10000, CLASSES),
    "ISIC 2017": ("isic2017", isic2017, CLASSES),
    "images and masks": ("image_and_mask_folders", image_and_mask_folders, ("lesion",)),
    "twelve data sets in one folder": ("auto", sets_beside_each_other, CLASSES),
    "visits, subjects and boxes.csv": ("visits", visits_of_subjects, LABELS),
    "visits, COCO": ("visits", visits_of_coco, LABELS),
}


def seconds(layout: str, lay: Callable[[Path, int], None], labels: tuple[str, ...], n: int) -> float:
    """CPU seconds of reading `n` rows once; the folder is made and removed outside of the measure."""
    with tempfile.TemporaryDirectory() as folder:
        lay(Path(folder), n)
        start = time.process_time()
        reading = read_source(Path(folder), layout, labels=labels, layouts=EVERYTHING)
        spent = time.process_time() - start
    assert len(reading.samples) >= n // 2, reading.problems[:3]
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[4_000, 16_000, 64_000])
    given = parser.parse_args()
    table = Table("layout", *(f"{n:,} rows" for n in given.rows), "slope", title="CPU seconds to read")
    for name, case in CASES.items():
        spent = [seconds(*case, n) for n in given.rows]
        slope = math.log(spent[-1] / spent[0]) / math.log(given.rows[-1] / given.rows[0])
        table.add_row(name, *(f"{s:.2f}" for s in spent), f"{slope:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
