"""What lesion_segmentation says and shows about one picture. Coordinates are pixels of the upright picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.bundle import BundleCard
from derm_ml.explain.overlay import captioned, outlined
from derm_ml.images.masks import bounding_box, png, polygons, run_lengths
from derm_ml.predictor import Predictor
from derm_ml.sentences import WrongValue, unknown
from derm_ml.task import CHAIN

FORMATS = ("png", "rle", "polygon")
BOX = ("left", "top", "width", "height")  # of the bounding box, in pixels


def answer(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> dict[str, Any]:
    """The mask as `options["mask"]` asks (png, rle or polygon; default png), its share of the picture, box, confidence.

    `png`: base64 of a PNG of 0 and 255; `rle`: COCO's uncompressed runs, down the columns; `polygon`: rings of
    [x, y]. All have the size of the picture after its EXIF orientation is applied. `bounding_box` is null for an empty
    mask. Raises `ValueError` for another format.
    """
    form = options.get("mask", "png").lower()
    if form not in FORMATS:
        raise WrongValue(unknown("mask format", form, FORMATS, "there are"))
    found = predictor.segment([image])[0]
    height, width = found.mask.shape
    box = bounding_box(found.mask)
    return {
        "task": predictor.card.task,
        "width": width,
        "height": height,
        "area_share": float((found.mask > 0).mean()),
        "bounding_box": dict(zip(BOX, box, strict=True)) if box else None,
        "confidence": found.confidence,
        "mask": {"format": form, **_encoded(found.mask, form)},
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "note": RESEARCH_USE,
    }


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer; without a lesion the bounding box is empty."""
    box = [f"bounding_box.{side}" for side in BOX]
    return ["task", "width", "height", "area_share", *box, "confidence", "mask", *CHAIN, "overlay"]


def explain(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The picture with the outline of the lesion and a caption."""
    found = predictor.segment([image])[0]
    share = (found.mask > 0).mean()
    said = f"lesion: {share:.1%} of the picture, confidence {found.confidence:.0%}" if share else "no lesion found"
    return captioned(outlined(image, found.mask), f"{said} (model {predictor.bundle.version})\n{RESEARCH_USE}")


def drawings(image: np.ndarray, answer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The mask of an answer in PNG form, (H, W) uint8 of 0 and 255, and the picture with its outline."""
    data = np.frombuffer(base64.b64decode(answer["mask"]["data"]), np.uint8)
    mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    caption = f"lesion: {answer['area_share']:.1%}, confidence {answer['confidence']:.0%}\n{RESEARCH_USE}"
    return {"mask": mask, "overlay": captioned(outlined(image, mask), caption)}


def _encoded(mask: np.ndarray, form: str) -> dict[str, Any]:
    if form == "rle":
        return {"size": list(mask.shape), "counts": run_lengths(mask)}
    if form == "polygon":
        return {"polygons": polygons(mask)}
    return {"data": base64.b64encode(png(mask)).decode("ascii")}
