"""What the JSON of an explanation holds: the maps and masks that its drawing is made of, as numbers and as PNGs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from derm_ml.asking.answers import Explanation, Fitness, Layer, Png
from derm_ml.asking.options import ABSTAINED
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.explain.overlay import heat
from derm_ml.images.preprocess import limit_side


def at_size(image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The image (H, W, 3) at the size that was asked for: its longer side at most `options["size"]` pixels."""
    return limit_side(image, int(options.get("size") or 0))


def withheld(predictor: Classifier, outputs: Outputs, options: Mapping[str, str]) -> str:
    """Why no number is told of the first image of `outputs`, in a sentence; empty where they are told.

    A heatmap shows where a network looked, also where its answer is worth nothing.
    """
    return untold(predictor.fitness(outputs)[0], options)


def untold(fit: Fitness, options: Mapping[str, str]) -> str:
    """Why nothing is told of an image, in a sentence; empty where it is, or is asked for though the model abstains."""
    return fit.abstained_because if fit.abstained and options.get(ABSTAINED.name) != "numbers" else ""


def heatmap_layers(
    predictor: Classifier, outputs: Outputs, labels: Sequence[str], image: np.ndarray, options: Mapping[str, str]
) -> Explanation:
    """The Grad-CAM of some labels of the first image of `outputs`; `image` (H, W, 3) is that image as it was asked."""
    height, width = at_size(image, options).shape[:2]
    silent = bool(withheld(predictor, outputs, options))
    layers = []
    for label in labels:
        column = predictor.labels.index(label)
        cam = outputs.maps[0, column]
        warmth = heat(predictor.unsquared(cam, image), height, width)
        layers.append(
            Layer(
                label=label,
                probability=None if silent else float(outputs.probabilities[0, column]),
                grid=cam.shape,
                map=cam.astype(float).tolist(),
                overlay=png_of((warmth * 255).astype(np.uint8)),
            )
        )
    return Explanation(kind="heatmap", width=image.shape[1], height=image.shape[0], layers=layers)


def outline_layer(label: str, mask: np.ndarray, options: Mapping[str, str]) -> Explanation:
    """A mask (H, W) uint8 of 0 and 255, in the frame of the image that was asked about."""
    small = np.where(at_size(mask, options) > 127, np.uint8(255), np.uint8(0))
    layer = Layer(label=label, overlay=png_of(small))
    return Explanation(kind="outline", width=mask.shape[1], height=mask.shape[0], layers=[layer])


def png_of(image: np.ndarray) -> Png:
    """An RGB (H, W, 3) or greyscale (H, W) uint8 image as base64 of a PNG."""
    ordered = image[..., ::-1] if image.ndim == 3 else image
    data = cv2.imencode(".png", ordered)[1].tobytes()
    return Png(format="png", width=image.shape[1], height=image.shape[0], data=base64.b64encode(data).decode("ascii"))
