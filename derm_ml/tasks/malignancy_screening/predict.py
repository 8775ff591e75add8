"""What malignancy_screening says and shows about one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from derm_ml.asking.answers import FOOT, Explanation
from derm_ml.bundles.bundle import BundleCard, model_of
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.bundles.operating import asked_for
from derm_ml.explain.answer import asked, explained, explanation_of
from derm_ml.metrics.points import OperatingPoint
from derm_ml.promotion.policy import Policy
from derm_ml.sentences import WrongValue, unknown
from derm_ml.tasks.malignancy_screening.asking import Screening, ScreeningDecision
from derm_ml.tasks.malignancy_screening.task import TASK

LABEL = TASK.labels[0]


def load(bundle: Path) -> Classifier:
    """The predictor of a bundle of this task."""
    return Classifier(model_of(TASK.name, bundle))


def answer(predictor: Classifier, image: np.ndarray, options: Mapping[str, str]) -> Screening:
    """The calibrated probability, and the decision at an operating point with the evidence behind it.

    `options` may give `point` (default: the policy's), and `age` and `sex`, used if the bundle was trained with them.
    Where validation could not prove the point's recall, or the bundle was made before the policy asked for its point,
    there is no decision, and `why` says so. `prevalence` is the share of cancers in the validation split that the
    probability is calibrated to: where cancers are rarer, the probability is too high; `prevalence` of `options`
    corrects it.
    Raises `ValueError` for a point asked for that the bundle does not have.
    """
    return answers(predictor, [image], options)[0]


def answers(predictor: Classifier, images: Sequence[np.ndarray], options: Mapping[str, str]) -> list[Screening]:
    """The answers to several images, predicted together."""
    outputs = asked(predictor, images, options)
    return [_screening(predictor, outputs, row, options) for row in range(len(images))]


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer; without a decision those of its evidence are empty."""
    evidence = (f"decision.{name}" for name in ScreeningDecision.model_fields)
    return ["task", "predicted", f"probabilities.{LABEL}", "prevalence", *evidence, *FOOT]


def explain(predictor: Classifier, image: np.ndarray, options: Mapping[str, str]) -> np.ndarray:
    """The image with what speaks for malignancy laid over it, and a caption."""
    return explained(predictor, image, options)


def explanation(predictor: Classifier, image: np.ndarray, options: Mapping[str, str]) -> tuple[Screening, Explanation]:
    """The answer, and what speaks for malignancy as numbers."""
    outputs = asked(predictor, [image], options)
    return _screening(predictor, outputs, 0, options), explanation_of(predictor, outputs, image, options)


def _screening(predictor: Classifier, outputs: Outputs, row: int, options: Mapping[str, str]) -> Screening:
    probability = float(outputs.probabilities[row, 0])
    decision = _decision(predictor.card, options.get("point"), probability)
    return Screening(
        predicted={True: LABEL, False: TASK.negative, None: "undecided"}[decision.positive],
        probabilities={LABEL: probability},
        prevalence=predictor.card.prevalence.get(LABEL),
        decision=decision,
        **asked_for(predictor.card, outputs.probabilities[row], options),
        **dict(predictor.fitness(outputs)[row]),
    )


def _decision(card: BundleCard, asked: str | None, probability: float) -> ScreeningDecision:
    name = asked or Policy.of(TASK).operating_point
    point = next((p for p in card.operating_points if p.name == name), None)
    if point:
        return ScreeningDecision(
            point=name,
            positive=probability >= point.threshold,
            threshold=point.threshold,
            recall=point.sensitivity,
            recall_at_least=point.recall_at_least,
            specificity=point.specificity,
            positives=point.positives,
            groups=point.groups,
            split=point.split,
            split_hash=point.split_hash,
            why=_evidence(point),
        )
    short = next((p for p in card.unclaimed_points if p.name == name), None)
    if short is None and asked:
        raise WrongValue(unknown("operating point", name, card.point_names, "the model has"))
    why = f"no decision: the policy decides at {name}, the model has {', '.join(card.point_names) or 'no point'}"
    return ScreeningDecision(
        point=name,
        positive=None,
        threshold=None,
        recall=None,
        recall_at_least=None,
        specificity=None,
        positives=short and short.positives,
        groups=short and short.groups,
        split=short and short.split,
        split_hash=short and short.split_hash,
        why=f"no decision at {name}: {short.reason}" if short else why,
    )


def _evidence(point: OperatingPoint) -> str:
    several = point.groups is not None and point.groups < point.positives
    images = f"{point.positives} malignant {point.split} images"
    images += f" of {point.groups} patients or lesions" if several else ""
    if point.recall_at_least is None:
        return f"{images}; the threshold was chosen on these very cases, no recall is promised"
    return f"{images}, recall ≥ {point.recall_at_least:.4f} with 95 % confidence"
