"""What malignancy_screening says and shows about one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.bundle import BundleCard, OperatingPoint
from derm_ml.explain.answer import attributes_from, explained
from derm_ml.policy import Policy
from derm_ml.predictor import Predictor
from derm_ml.sentences import WrongValue, unknown
from derm_ml.task import CHAIN
from derm_ml.tasks.malignancy_screening.task import TASK

LABEL = TASK.labels[0]


def answer(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> dict[str, Any]:
    """The calibrated probability, and the decision at an operating point with the evidence behind it.

    `options` may give `point` (default: the policy's), and `age` and `sex`, used if the bundle was trained with them.
    Where validation could not prove the point's recall, or the bundle was made before the policy asked for its point,
    there is no decision, and `why` says so. `prevalence` is the share of cancers in the validation split that the
    probability is calibrated to: where cancers are rarer, the probability is too high.
    Raises `ValueError` for a point asked for that the bundle does not have.
    """
    outputs = predictor([image], [attributes_from(options)])
    probability = float(outputs.probabilities[0, 0])
    decision = _decision(predictor.card, options.get("point"), probability)
    return {
        "task": predictor.card.task,
        "predicted": {True: LABEL, False: TASK.negative, None: "undecided"}[decision["positive"]],
        "probabilities": {LABEL: probability},
        "prevalence": predictor.card.prevalence.get(LABEL),
        "decision": decision,
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "note": RESEARCH_USE,
    }


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer; without a decision those of its evidence are empty."""
    decision = ("point", "positive", "threshold", "recall", "recall_at_least", "specificity", "positives", "groups")
    evidence = (*decision, "split", "split_hash", "why")
    probability = f"probabilities.{LABEL}"
    return ["task", "predicted", probability, "prevalence", *(f"decision.{name}" for name in evidence), *CHAIN]


def explain(predictor: Predictor, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The picture with what speaks for malignancy laid over it, and a caption."""
    return explained(predictor, image, options)


def _decision(card: BundleCard, asked: str | None, probability: float) -> dict[str, Any]:
    name = asked or Policy.of(TASK).operating_point
    point = next((p for p in card.operating_points if p.name == name), None)
    if point:
        return {
            "point": name,
            "positive": probability >= point.threshold,
            "threshold": point.threshold,
            "recall": point.sensitivity,
            "recall_at_least": point.recall_at_least,
            "specificity": point.specificity,
            "positives": point.positives,
            "groups": point.groups,
            "split": point.split,
            "split_hash": point.split_hash,
            "why": _evidence(point),
        }
    short = next((p for p in card.unclaimed_points if p.name == name), None)
    if short is None and asked:
        raise WrongValue(unknown("operating point", name, card.point_names, "the model has"))
    blank = dict.fromkeys(("positive", "threshold", "recall", "recall_at_least", "specificity"))
    if short is None:
        why = f"no decision: the policy decides at {name}, the model has {', '.join(card.point_names) or 'no point'}"
        blank |= dict.fromkeys(("positives", "groups", "split", "split_hash"))
        return {"point": name, **blank, "why": why}
    return {
        "point": name, **blank, "positives": short.positives, "groups": short.groups, "split": short.split,
        "split_hash": short.split_hash, "why": f"no decision at {name}: {short.reason}",
    }  # fmt: skip


def _evidence(point: OperatingPoint) -> str:
    several = point.groups is not None and point.groups < point.positives
    images = f"{point.positives} malignant {point.split} images"
    images += f" of {point.groups} patients or lesions" if several else ""
    if point.recall_at_least is None:
        return f"{images}; the threshold was chosen on these very cases, no recall is promised"
    return f"{images}, recall ≥ {point.recall_at_least:.4f} with 95 % confidence"
