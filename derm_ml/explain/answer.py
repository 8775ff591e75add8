"""What every classifier's `predict.py` needs: attributes from options, and the picture with its heatmap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.explain.overlay import captioned, overlay
from derm_ml.predictor import Attributes, Predictor
from derm_ml.sentences import WrongValue, unknown


def attributes_from(options: Mapping[str, str]) -> Attributes:
    """`age` (years) and `sex` of the options, where given. Raises `ValueError` for an age that is no number."""
    attributes: dict[str, str | float] = {}
    if options.get("age"):
        attributes["age"] = float(options["age"])
    if options.get("sex"):
        attributes["sex"] = options["sex"]
    return attributes


def explained(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The picture with the Grad-CAM of `options["label"]` (default: the most likely label) and a caption.

    Raises `WrongValue` for a label the model does not know.
    """
    outputs = predictor([image], [attributes_from(options)])
    label = options.get("label") or predictor.labels[int(outputs.probabilities[0].argmax())]
    if label not in predictor.labels:
        raise WrongValue(unknown("label", label, predictor.labels, "the model knows"))
    column = predictor.labels.index(label)
    picture = overlay(image, predictor.unsquared(outputs.maps[0, column], image))
    probability = outputs.probabilities[0, column]
    return captioned(picture, f"{label}: {probability:.1%} (model {predictor.bundle.version})\n{RESEARCH_USE}")
