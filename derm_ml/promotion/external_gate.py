"""External validation as a check of promotion: asked for where the policy names a set under `external`.

verdict = validated(task, candidate, data)      None: nothing is asked for

The candidate is measured on that set by promotion itself, its thresholds as they are, and what is kept of it is counted
and in part predicted again each time: what somebody wrote, or measured of another model, counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derm_ml import DermError
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation.verdicts import FAILED, PASSED, Verdict
from derm_ml.metrics.glossary import metric_named
from derm_ml.promotion.evidence import measured_elsewhere
from derm_ml.promotion.policy import External, Policy

if TYPE_CHECKING:
    from derm_ml.promotion.contract import Data, ModelVersion
    from derm_ml.task import Task

CHECK = "external_validation"
HAZARD = "a model that holds only where its own images come from"


def validated(task: Task, candidate: ModelVersion, data: Data) -> Verdict | None:
    """What a candidate reaches on the set that the policy names; what cannot be measured is refused with the reason."""
    asked = Policy.of(task).external
    if asked is None:
        return None
    try:
        against, said = _measured(task, candidate, asked, data)
    except DermError as error:
        against, said = f"the policy asks for a validation on {asked.name}, which cannot be made: {error}", ""
    return Verdict(CHECK, against or said, FAILED if against else PASSED, HAZARD, limit=f"at least {asked.at_least:g}")


def _measured(task: Task, candidate: ModelVersion, asked: External, data: Data) -> tuple[str, str]:
    """(what stands against it or "", what was measured)."""
    card = Bundle.open_trusted(candidate.bundle).card
    if asked.dataset in (card.dataset_md5, data.present(task)):
        return f"{asked.name} is the dataset of the task itself: name one that no model of it was made with", ""
    dataset = data.dataset(task, asked.dataset)
    if unknown := sorted({*card.labels} - {*dataset.labels}):
        return f"{asked.name} says nothing of {', '.join(unknown)}, which the model decides", ""
    folder = data.validate(task, candidate, asked.dataset)
    found, faults = measured_elsewhere(task, candidate.bundle, folder, dataset)
    if faults:
        return f"{folder} cannot be used, remove it: {'; '.join(faults)}", ""
    metric = found.metrics.get(task.primary_metric)
    if metric is None or metric.value is None:
        return f"{task.primary_metric} on {asked.name} is missing or undefined", ""
    said = f"{metric_named(task.primary_metric).title} {metric} on {asked.name}, {found.n_patients} patients"
    if found.n_patients < asked.patients:
        return f"{said}; the policy asks for {asked.patients} patients", ""
    wanted = f"{said}; the policy asks for at least {asked.at_least:g}"
    return (wanted if metric.value < asked.at_least else ""), wanted
