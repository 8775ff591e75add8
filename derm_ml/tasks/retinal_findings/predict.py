"""What retinal_findings says and shows about one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from derm_ml.asking.answers import FOOT, Explanation
from derm_ml.asking.pair import Pair
from derm_ml.bundles.bundle import BundleCard, model_of
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.bundles.operating import asked_for
from derm_ml.explain.answer import asked as ask_all
from derm_ml.explain.findings import explained_findings, finding_of, shown_findings
from derm_ml.explain.layers import heatmap_layers
from derm_ml.tasks.retinal_findings.asking import FindingDecision, Findings
from derm_ml.tasks.retinal_findings.task import TASK


def load(bundle: Path) -> Classifier:
    """The predictor of a bundle of this task."""
    return Classifier(model_of(TASK.name, bundle))


def answer(predictor: Classifier, asked: np.ndarray | Pair, options: Mapping[str, str]) -> Findings:
    """Calibrated probability, threshold and decision of every finding; `present` names those decided for.

    Of a pair of photos the first is the eye in question and the second the same person's other eye: `fellow_share`
    says how much of it went into the logit of each finding, 0 where there is none. A finding is present from its point
    `balanced` upwards. Findings do not exclude each other.
    """
    return _findings(predictor, finding_of(predictor, asked), 0, isinstance(asked, Pair), options)


def answers(predictor: Classifier, images: Sequence[np.ndarray], options: Mapping[str, str]) -> list[Findings]:
    """The answers to several images, predicted together, each without the photo of the other eye."""
    outputs = ask_all(predictor, images, options)
    return [_findings(predictor, outputs, row, False, options) for row in range(len(images))]


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer."""
    groups = ("fellow_share", "probabilities", "thresholds", "decisions")
    return ["task", "present", *(f"{group}.{label}" for group in groups for label in card.labels), *FOOT]


def explain(predictor: Classifier, asked: np.ndarray | Pair, options: Mapping[str, str]) -> np.ndarray:
    """The image with the Grad-CAM of `options["label"]`; without one, of every finding that is present, side by side.

    Where no finding is present, that of the most likely. Raises `ValueError` for a label the model does not know.
    """
    return explained_findings(predictor, asked, options)


def explanation(
    predictor: Classifier, asked: np.ndarray | Pair, options: Mapping[str, str]
) -> tuple[Findings, Explanation]:
    """The answer, and the Grad-CAMs that `explain` shows as numbers."""
    outputs = finding_of(predictor, asked)
    image = asked.first if isinstance(asked, Pair) else asked
    labels = shown_findings(predictor, outputs, options.get("label", ""))
    said = _findings(predictor, outputs, 0, isinstance(asked, Pair), options)
    return said, heatmap_layers(predictor, outputs, labels, image, options)


def _findings(
    predictor: Classifier, outputs: Outputs, row: int, with_fellow: bool, options: Mapping[str, str]
) -> Findings:
    shares = (with_fellow and predictor.card.fellow) or (0.0,) * len(predictor.labels)
    probabilities = {name: float(p) for name, p in zip(predictor.labels, outputs.probabilities[row], strict=True)}
    thresholds = {name: predictor.card.threshold(name) for name in predictor.labels}
    decisions = {name: probabilities[name] >= thresholds[name] for name in predictor.labels}
    return Findings(
        present=" + ".join(name for name, there in decisions.items() if there) or "none",
        fellow_share=dict(zip(predictor.labels, shares, strict=True)),
        probabilities=probabilities,
        thresholds=thresholds,
        decisions=decisions,
        operating_points=[
            FindingDecision(
                **point.model_dump(exclude={"split", "split_hash"}),
                positive=probabilities[point.label] >= point.threshold,
            )
            for point in predictor.card.operating_points
        ],
        **asked_for(predictor.card, outputs.probabilities[row], options),
        **dict(predictor.fitness(outputs)[row]),
    )
