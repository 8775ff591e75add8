"""What lesion_classification says and shows about one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from derm_ml.asking.answers import FOOT, Explanation
from derm_ml.bundles.bundle import BundleCard, model_of
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.bundles.operating import asked_for
from derm_ml.explain.answer import asked, explained, explanation_of
from derm_ml.tasks.lesion_classification.asking import DiagnosisAnswer, PointDecision
from derm_ml.tasks.lesion_classification.task import TASK


def load(bundle: Path) -> Classifier:
    """The predictor of a bundle of this task."""
    return Classifier(model_of(TASK.name, bundle))


def answer(predictor: Classifier, image: np.ndarray, options: Mapping[str, str]) -> DiagnosisAnswer:
    """Calibrated probabilities, the most likely class, and the decision at each operating point.

    `options` may give `age` (years) and `sex`, used if the bundle was trained with them, `prevalence` and `sets`.
    Raises `ValueError` for an age that is no number.
    """
    return answers(predictor, [image], options)[0]


def answers(predictor: Classifier, images: Sequence[np.ndarray], options: Mapping[str, str]) -> list[DiagnosisAnswer]:
    """The answers to several images, predicted together."""
    outputs = asked(predictor, images, options)
    return [_diagnosis(predictor, outputs, row, options) for row in range(len(images))]


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer."""
    return ["task", "predicted", *(f"probabilities.{label}" for label in card.labels), *FOOT]


def explain(predictor: Classifier, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The image with the Grad-CAM of `options["label"]` (default: the most likely class) and a caption.

    Raises `ValueError` for a label the model does not know.
    """
    return explained(predictor, image, options)


def explanation(
    predictor: Classifier, image: np.ndarray, options: Mapping[str, str]
) -> tuple[DiagnosisAnswer, Explanation]:
    """The answer, and the Grad-CAM that `explain` shows as numbers."""
    outputs = asked(predictor, [image], options)
    return _diagnosis(predictor, outputs, 0, options), explanation_of(predictor, outputs, image, options)


def _diagnosis(predictor: Classifier, outputs: Outputs, row: int, options: Mapping[str, str]) -> DiagnosisAnswer:
    probabilities = {n: float(p) for n, p in zip(predictor.labels, outputs.probabilities[row], strict=True)}
    points = [
        PointDecision(
            name=point.name,
            label=point.label,
            threshold=point.threshold,
            positive=probabilities[point.label] >= point.threshold,
            sensitivity=point.sensitivity,
            sensitivity_low=point.sensitivity_low,
            specificity=point.specificity,
            positives=point.positives,
        )
        for point in predictor.card.operating_points
    ]
    return DiagnosisAnswer(
        predicted=max(probabilities, key=probabilities.__getitem__),
        probabilities=probabilities,
        operating_points=points,
        **asked_for(predictor.card, outputs.probabilities[row], options),
        **dict(predictor.fitness(outputs)[row]),
    )
