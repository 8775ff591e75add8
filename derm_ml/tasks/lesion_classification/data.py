"""Reads and draws image sets for lesion_classification."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from derm_ml.data.diagnoses import diagnoses
from derm_ml.data.sources import read_source
from derm_ml.data.sources.unmatched import with_unmatched
from derm_ml.files import replacing_file
from derm_ml.records import Reading
from derm_ml.synthetic.lesions import draw_lesion
from derm_ml.tasks.lesion_classification.settings import LesionSettings
from derm_ml.tasks.lesion_classification.task import TASK


def read(root: Path, settings: LesionSettings) -> Reading:
    """Read any published set of skin lesions, class folders, a CSV list, or a folder of such folders."""
    reading = read_source(
        root,
        settings.source,
        labels=TASK.labels,
        label_map=settings.label_map(),
        defaults={name: entry.lesion for name, entry in diagnoses().items()},
        setting=settings.hint,
        follow_links=settings.follow_links,
        not_read=settings.not_read,
    )
    return with_unmatched(reading, {"labels": [*settings.labels]})


def draw(folder: Path, n: int, seed: int = 0) -> None:
    """Draw `n` labelled pictures in the official ISIC 2017 layout: 60 % training, 20 % validation, 20 % test.

    Ages and sexes are drawn too, some unknown, and say nothing about the class.
    """
    rng = np.random.default_rng(seed)
    shares = {"Training": round(n * 0.6), "Validation": round(n * 0.2)}
    shares["Test"] = n - sum(shares.values())
    number = 0
    for part, count in shares.items():
        images = folder / f"ISIC-2017_{part}_Data"
        images.mkdir(parents=True, exist_ok=True)
        truth, facts = [], []
        for _ in range(count):
            label = TASK.labels[number % len(TASK.labels)]
            name = f"ISIC_{number:07d}"
            drawn = draw_lesion(label, seed=seed * 1_000_003 + number, side=144, width=192)
            with replacing_file(images / f"{name}.jpg") as temporary:
                encoded = cv2.imencode(".jpg", drawn.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
                temporary.write_bytes(encoded.tobytes())
            truth.append([name, float(label == "melanoma"), float(label == "seborrheic_keratosis")])
            known = rng.random() > 0.1
            facts.append([name, int(rng.integers(3, 17)) * 5 if known else "unknown", rng.choice(["male", "female"])])
            number += 1
        _write_csv(
            folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", ["image_id", "melanoma", "seborrheic_keratosis"], truth
        )
        _write_csv(folder / f"ISIC-2017_{part}_Data_metadata.csv", ["image_id", "age_approximate", "sex"], facts)


def _write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    with replacing_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
