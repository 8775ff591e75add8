"""Reads and draws pictures with masks for lesion_segmentation."""

from __future__ import annotations

from pathlib import Path

import cv2

from derm_ml.data.sources import MASK_LAYOUTS, read_source
from derm_ml.files import replacing_file
from derm_ml.records import Reading
from derm_ml.synthetic.lesions import CLASSES, draw_lesion
from derm_ml.task import PrepareSettings
from derm_ml.tasks.lesion_segmentation.task import TASK


def read(root: Path, settings: PrepareSettings) -> Reading:
    """Read the official ISIC 2017 or 2018 folders, images/ beside masks/, or a folder of such folders."""
    return read_source(
        root,
        settings.source,
        labels=TASK.labels,
        layouts=MASK_LAYOUTS,
        follow_links=settings.follow_links,
        not_read=settings.not_read,
    )


def draw(folder: Path, n: int, seed: int = 0) -> None:
    """Draw `n` pictures with exact masks in the official layout: 60 % training, 20 % validation, 20 % test."""
    shares = {"Training": round(n * 0.6), "Validation": round(n * 0.2)}
    shares["Test_v2"] = n - sum(shares.values())
    number = 0
    for part, count in shares.items():
        images, masks = folder / f"ISIC-2017_{part}_Data", folder / f"ISIC-2017_{part}_Part1_GroundTruth"
        for _ in range(count):
            label = CLASSES[number % len(CLASSES)]
            drawn = draw_lesion(label, seed=seed * 1_000_003 + number, side=144, width=192)
            name = f"ISIC_{number:07d}"
            _write(images / f"{name}.jpg", drawn.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            _write(masks / f"{name}_segmentation.png", drawn.mask, [])
            number += 1


def _write(path: Path, picture, options: list[int]) -> None:
    with replacing_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(path.suffix, picture, options)[1].tobytes())
