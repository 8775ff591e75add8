"""What retinal_findings says and shows about one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.explain.findings import explained
from derm_ml.predictor import Predictor


def answer(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> dict[str, Any]:
    """Calibrated probability, threshold and decision of every finding; `present` names those decided for.

    A finding is present from its point `balanced` upwards. Findings do not exclude each other.
    """
    probabilities = {n: float(p) for n, p in zip(predictor.labels, predictor([image]).probabilities[0], strict=True)}
    thresholds = {name: predictor.card.threshold(name) for name in predictor.labels}
    decisions = {name: probabilities[name] >= thresholds[name] for name in predictor.labels}
    return {
        "task": predictor.card.task,
        "present": " + ".join(name for name, there in decisions.items() if there) or "none",
        "probabilities": probabilities,
        "thresholds": thresholds,
        "decisions": decisions,
        "operating_points": [
            {
                **point.model_dump(exclude={"split", "split_hash"}),
                "positive": probabilities[point.label] >= point.threshold,
            }
            for point in predictor.card.operating_points
        ],
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "note": RESEARCH_USE,
    }


def explain(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The picture with the Grad-CAM of `options["label"]`; without one, of every finding that is present, side by side.

    Where no finding is present, that of the most likely. Raises `ValueError` for a label the model does not know.
    """
    return explained(predictor, image, options.get("label", ""))
