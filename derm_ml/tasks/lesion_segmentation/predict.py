"""What lesion_segmentation says and shows about one image. Coordinates are pixels of the upright image."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from derm_ml.asking.answers import FOOT, Explanation
from derm_ml.bundles.bundle import BundleCard, model_of
from derm_ml.bundles.segmenter import Segmentation, Segmenter
from derm_ml.explain.layers import at_size, outline_layer, untold
from derm_ml.explain.overlay import outlined
from derm_ml.explain.panels import ORIGINAL, Panel, beside, captioned
from derm_ml.images.masks import bounding_box, png, polygons, run_lengths
from derm_ml.synthetic_mark import small_print_of
from derm_ml.tasks.lesion_segmentation.asking import MASK, BoundingBox, Outline, PngMask, Polygons, RunLengths
from derm_ml.tasks.lesion_segmentation.task import TASK


def load(bundle: Path) -> Segmenter:
    """The predictor of a bundle of this task."""
    return Segmenter(model_of(TASK.name, bundle))


def answer(predictor: Segmenter, image: np.ndarray, options: Mapping[str, str]) -> Outline:
    """The mask as `options["mask"]` asks (png, rle or polygon; default png), its share of the image, box, confidence.

    `png`: base64 of a PNG of 0 and 255; `rle`: COCO's uncompressed runs, down the columns; `polygon`: rings of
    [x, y]. All have the size of the image after its EXIF orientation is applied. `bounding_box` is null for an empty
    mask. Raises `ValueError` for another format.
    """
    return _outline(predictor.segment([image])[0], options)


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer; without a lesion the bounding box is empty."""
    box = [f"bounding_box.{side}" for side in BoundingBox.model_fields]
    return ["task", "width", "height", "area_share", *box, "confidence", "mask", *FOOT, "overlay"]


def explain(predictor: Segmenter, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The image, beside it the same with the outline of the lesion, and a caption; without an answer the image alone.

    The longer side of each is at most `options["size"]`.
    """
    found, small = predictor.segment([image])[0], at_size(image, options)
    foot = f"(model {predictor.bundle.version})\n{predictor.card.small_print}"
    if why := untold(found.fitness, options):
        return captioned(small, f"no answer: {why} {foot}")
    share = (found.mask > 0).mean()
    said = f"lesion: {share:.1%} of the image, confidence {found.confidence:.0%}" if share else "no lesion found"
    drawn = outlined(small, at_size(found.mask, options))
    return beside([Panel(small, ORIGINAL), Panel(drawn, "Outline of the lesion")], f"{said} {foot}")


def explanation(predictor: Segmenter, image: np.ndarray, options: Mapping[str, str]) -> tuple[Outline, Explanation]:
    """The answer, and its mask at the size asked for."""
    found = predictor.segment([image])[0]
    layers = outline_layer(predictor.labels[0], found.mask, options)
    if untold(found.fitness, options):  # the outline is the answer
        layers = layers.model_copy(update={"layers": []})
    return _outline(found, options), layers


def drawings(image: np.ndarray, answer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The mask of an answer, (H, W) uint8 of 0 and 255, and the image with its outline; nothing without a PNG."""
    if answer["mask"] is None or answer["mask"]["format"] != "png":
        return {}
    data = np.frombuffer(base64.b64decode(answer["mask"]["data"]), np.uint8)
    mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    small_print = small_print_of(bool(answer.get("for_synthetic_images")))
    caption = f"lesion: {answer['area_share']:.1%}, confidence {answer['confidence']:.0%}\n{small_print}"
    return {"mask": mask, "overlay": captioned(outlined(image, mask), caption)}


def _outline(found: Segmentation, options: Mapping[str, str]) -> Outline:
    form = MASK.read(options.get("mask") or MASK.default)
    height, width = found.mask.shape
    box = bounding_box(found.mask)
    return Outline(
        width=width,
        height=height,
        area_share=float((found.mask > 0).mean()),
        bounding_box=BoundingBox(left=box[0], top=box[1], width=box[2], height=box[3]) if box else None,
        confidence=found.confidence,
        mask=_encoded(found.mask, form),
        **dict(found.fitness),
    )


def _encoded(mask: np.ndarray, form: str) -> PngMask | RunLengths | Polygons:
    if form == "rle":
        return RunLengths(format="rle", size=mask.shape, counts=run_lengths(mask))
    if form == "polygon":
        return Polygons.model_validate({"format": "polygon", "polygons": polygons(mask)})
    return PngMask(format="png", data=base64.b64encode(png(mask)).decode("ascii"))
