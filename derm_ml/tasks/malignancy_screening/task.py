"""malignancy_screening: benign or malignant, recall first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml.data.rules import IMAGE_RULES
from derm_ml.embeddings.artifacts import EMBEDDING_ARTIFACTS
from derm_ml.evaluation.gates import (
    DISTILLED_GATE,
    INPUT_GATE,
    INT8_GATE,
    PSEUDO_LABEL_GATE,
    calibrated_within,
    judged_elsewhere,
    ranks_better_than_chance,
)
from derm_ml.metrics.words import no_threshold, threshold_in_words
from derm_ml.promotion.gates import SUBGROUP_GATES, probe_gates
from derm_ml.promotion.policy import Policy
from derm_ml.task import Artifact, Finding, Gate, Task
from derm_ml.tasks.malignancy_screening.asking import ASKING
from derm_ml.tasks.malignancy_screening.recipes import (
    Distilled,
    Drawn,
    FaithfulResnet18,
    FaithfulResnet18Plain,
    FaithfulResnext50,
    Strong,
    StrongGpu,
)
from derm_ml.tasks.malignancy_screening.settings import MalignancySettings

if TYPE_CHECKING:
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric

LABEL = "malignant"


def recall_at_operating_point(evaluation: Evaluation) -> Finding:
    """At the policy's operating point the lower end of the recall's 95 % interval is at least the bound."""
    if elsewhere := judged_elsewhere(evaluation):
        return elsewhere
    policy = Policy.of(TASK)
    metric = _at_point(evaluation, "sensitivity", policy.operating_point)
    if metric is None or metric.value is None or metric.low is None or policy.recall_bound is None:
        return _unknown(policy.operating_point, metric)
    message = (
        f"sensitivity {metric.value:.3f} at {threshold_in_words(policy.operating_point)}, lower bound {metric.low:.3f} "
        f"({metric.n} positives), limit {policy.recall_bound:.3f}"
    )
    return Finding(
        metric.low >= policy.recall_bound,
        message,
        figures={"recall": metric.value, "bound": metric.low},
        value=metric.short,
        limit=f"lower bound at least {policy.recall_bound:g}",
    )


def specificity_at_operating_point(evaluation: Evaluation) -> Finding:
    """At the policy's operating point enough benign lesions are spared a biopsy."""
    if elsewhere := judged_elsewhere(evaluation):
        return elsewhere
    policy = Policy.of(TASK)
    metric = _at_point(evaluation, "specificity", policy.operating_point)
    if metric is None or metric.value is None or policy.specificity is None:
        return _unknown(policy.operating_point, metric)
    message = f"specificity {metric} at {threshold_in_words(policy.operating_point)}, limit {policy.specificity:.3f}"
    return Finding(
        metric.value >= policy.specificity,
        message,
        figures={"specificity": metric.value},
        value=metric.short,
        limit=f"at least {policy.specificity:g}",
    )


def probabilities_are_calibrated(evaluation: Evaluation) -> Finding:
    """The expected calibration error is at most the policy's limit beyond chance."""
    limit = Policy.of(TASK).calibration_error
    if limit is None:
        return Finding.not_enough_data("the policy names no limit of the calibration error")
    return calibrated_within(limit, evaluation)


def _at_point(evaluation: Evaluation, word: str, point: str) -> Metric | None:
    return evaluation.metrics.get(f"{word}_{LABEL}_at_{point}")


def _unknown(point: str, metric: Metric | None) -> Finding:
    why = metric.note if metric else "the model has no such point, or the policy names no limit"
    return Finding.not_enough_data(f"{no_threshold(point)}: {why.partition(': ')[2] or why}")


def heatmaps(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """Test images beside what spoke for malignancy: cancers found and missed, benign lesions flagged and passed."""
    from derm_ml.explain.sheets import classification_heatmaps
    from derm_ml.model_folder import ModelFolder
    from derm_ml.predictions.classifier import predictions_of

    predictions = predictions_of(predictor, dataset, "test", ModelFolder.holding(folder))
    return classification_heatmaps(predictor, predictions, folder, Policy.of(TASK).operating_point)


TASK = Task(
    name="malignancy_screening",
    title="Benign or malignant",
    labels=(LABEL,),
    recipes={
        "strong": Strong,
        "strong_gpu": StrongGpu,
        "faithful_resnet18_plain": FaithfulResnet18Plain,
        "faithful_resnet18": FaithfulResnet18,
        "faithful_resnext50": FaithfulResnext50,
        "distilled": Distilled,
        "drawn": Drawn,
    },
    asking=ASKING,
    primary_metric=f"auc_{LABEL}",
    rules=IMAGE_RULES,
    gates=(
        Gate("recall_at_operating_point", recall_at_operating_point, hazard="a missed cancer"),
        Gate("specificity_at_operating_point", specificity_at_operating_point, hazard="needless biopsies"),
        Gate("ranks_better_than_chance", ranks_better_than_chance, hazard="answers that say nothing"),
        Gate("probabilities_are_calibrated", probabilities_are_calibrated, False, "a probability that misleads"),
        INPUT_GATE,
        PSEUDO_LABEL_GATE,
        INT8_GATE,
        DISTILLED_GATE,
        *probe_gates("malignancy_screening"),
        *SUBGROUP_GATES,
    ),
    artifacts=(Artifact("heatmaps", heatmaps), *EMBEDDING_ARTIFACTS),
    settings=MalignancySettings,
    negative="benign",
)
