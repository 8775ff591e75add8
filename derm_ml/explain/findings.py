"""Heatmaps of findings that do not exclude each other: each has its own map (`/explain`, `derm explain`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derm_ml.asking.pair import Pair
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.explain.layers import at_size, withheld
from derm_ml.explain.overlay import overlay
from derm_ml.explain.panels import ORIGINAL, Panel, beside
from derm_ml.metrics.words import readable
from derm_ml.sentences import WrongValue, unknown


def finding_of(predictor: Classifier, asked: np.ndarray | Pair) -> Outputs:
    """What the predictor says of one eye: its photo (H, W, 3) uint8, or a pair with the photo of the other eye."""
    if not isinstance(asked, Pair):
        return predictor([asked])
    both = [predictor([picture]) for picture in asked.pictures]
    return predictor.with_fellows(concatenate(both), np.array([1, 0]))


def shown_findings(predictor: Classifier, outputs: Outputs, label: str = "") -> list[str]:
    """Whose maps are shown of the first image of `outputs`: `label`'s; without one, those of the findings present.

    Where none is present, that of the most likely. Raises `WrongValue` for a label the model does not know.
    """
    if label and label not in predictor.labels:
        raise WrongValue(unknown("label", label, predictor.labels, "the model knows"))
    p = dict(zip(predictor.labels, outputs.probabilities[0].tolist(), strict=True))
    present = [name for name in predictor.labels if p[name] >= predictor.card.threshold(name)]
    return [label] if label else present or [max(p, key=p.__getitem__)]


def explained_findings(predictor: Classifier, asked: np.ndarray | Pair, options: Mapping[str, str]) -> np.ndarray:
    """RGB (H, W, 3) uint8: the image, and a panel for each of the `shown_findings` of `options["label"]`, side by side.

    Of a pair it is the first photo; the second, of the person's other eye, only takes part in the probabilities.
    The longer side of a panel is at most `options["size"]`.
    """
    outputs = finding_of(predictor, asked)
    image = asked.first if isinstance(asked, Pair) else asked
    why = withheld(predictor, outputs, options)
    small = at_size(image, options)
    panels = [Panel(small, ORIGINAL)]
    for name in shown_findings(predictor, outputs, options.get("label", "")):
        column = predictor.labels.index(name)
        p, threshold = float(outputs.probabilities[0, column]), predictor.card.threshold(name)
        said = "present" if p >= threshold else "not present"
        text = (
            f"{readable(name)}: {p:.1%}, {said} (from {threshold:.1%})"
            if not why
            else f"{readable(name)}: no answer: {why}"
        )
        panels.append(Panel(overlay(small, predictor.unsquared(outputs.maps[0, column], image)), text, heat=True))
    return beside(panels, f"Model {predictor.bundle.version}\n{predictor.card.small_print}")
