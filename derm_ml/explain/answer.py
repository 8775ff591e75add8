"""What every classifier's `predict.py` needs: attributes from options, and the image with its heatmap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from derm_ml.asking.answers import Explanation
from derm_ml.bundles.attributes import Attributes
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.explain.layers import at_size, heatmap_layers, withheld
from derm_ml.explain.overlay import overlay
from derm_ml.explain.panels import ORIGINAL, Panel, beside
from derm_ml.metrics.words import readable
from derm_ml.sentences import WrongValue, unknown


def asked(predictor: Classifier, images: Sequence[np.ndarray], options: Mapping[str, str]) -> Outputs:
    """What the predictor says of some images (H, W, 3) uint8 of people of the same age and sex, as far as given."""
    attributes = attributes_from(options)
    return concatenate(predictor.batches((image, attributes) for image in images))


def attributes_from(options: Mapping[str, str]) -> Attributes:
    """`age` (years) and `sex` of the options, where given. Raises `ValueError` for an age that is no number."""
    attributes: dict[str, str | float] = {}
    if options.get("age"):
        attributes["age"] = float(options["age"])
    if options.get("sex"):
        attributes["sex"] = options["sex"]
    return attributes


def explained(predictor: Classifier, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The image beside itself with the Grad-CAM of `options["label"]` (default: the most likely label), and a caption.

    The longer side of each is at most `options["size"]`. Raises `WrongValue` for a label the model does not know.
    """
    outputs = asked(predictor, [image], options)
    label = _label(predictor, outputs, options)
    column = predictor.labels.index(label)
    small = at_size(image, options)
    drawn = overlay(small, predictor.unsquared(outputs.maps[0, column], image))
    why = withheld(predictor, outputs, options)
    said = f"{readable(label)}: {outputs.probabilities[0, column]:.1%}" if not why else f"no answer: {why}"
    panels = [Panel(small, ORIGINAL), Panel(drawn, f"Influence on {readable(label)}", heat=True)]
    return beside(panels, f"{said} (model {predictor.bundle.version})\n{predictor.card.small_print}")


def explanation_of(
    predictor: Classifier, outputs: Outputs, image: np.ndarray, options: Mapping[str, str]
) -> Explanation:
    """The Grad-CAM of `options["label"]` (default: the most likely label) as numbers; `outputs` are of `image`."""
    return heatmap_layers(predictor, outputs, [_label(predictor, outputs, options)], image, options)


def _label(predictor: Classifier, outputs: Outputs, options: Mapping[str, str]) -> str:
    label = options.get("label") or predictor.labels[int(outputs.probabilities[0].argmax())]
    if label not in predictor.labels:
        raise WrongValue(unknown("label", label, predictor.labels, "the model knows"))
    return label
