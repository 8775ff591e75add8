"""What lesion_classification says and shows about one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.bundle import BundleCard
from derm_ml.explain.answer import attributes_from, explained
from derm_ml.predictor import Predictor
from derm_ml.task import CHAIN


def answer(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> dict[str, Any]:
    """Calibrated probabilities, the most likely class, and the decision at each operating point.

    `options` may give `age` (years) and `sex`, used if the bundle was trained with them.
    Raises `ValueError` for an age that is no number.
    """
    outputs = predictor([image], [attributes_from(options)])
    probabilities = {n: float(p) for n, p in zip(predictor.labels, outputs.probabilities[0], strict=True)}
    points = [
        {
            "name": point.name,
            "label": point.label,
            "threshold": point.threshold,
            "positive": probabilities[point.label] >= point.threshold,
            "sensitivity": point.sensitivity,
            "sensitivity_low": point.sensitivity_low,
            "specificity": point.specificity,
            "positives": point.positives,
        }
        for point in predictor.card.operating_points
    ]
    return {
        "task": predictor.card.task,
        "predicted": max(probabilities, key=probabilities.__getitem__),
        "probabilities": probabilities,
        "operating_points": points,
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "note": RESEARCH_USE,
    }


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer."""
    return ["task", "predicted", *(f"probabilities.{label}" for label in card.labels), *CHAIN]


def explain(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The picture with the Grad-CAM of `options["label"]` (default: the most likely class) and a caption.

    Raises `ValueError` for a label the model does not know.
    """
    return explained(predictor, image, options)
