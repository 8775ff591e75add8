"""Promote or not: the same evidence gives the same decision.

decision = weigh(task, evidence_of(task, candidate, data), champion, data)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml import DermError
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation.record import Evaluation
from derm_ml.promotion.contract import Data, ModelVersion
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.policy import Policy

if TYPE_CHECKING:
    from derm_ml.metrics.intervals import Difference
    from derm_ml.task import Task


@dataclass(frozen=True, slots=True)
class Decision:
    """Promote or not, and why in sentences."""

    promote: bool
    reasons: tuple[str, ...]


def decide(
    candidate: Evidence, champion: Evidence | None, policy: Policy, metric: str, paired: Difference | None = None
) -> Decision:
    """Refuse on faults, failed blocking checks of model or data, images the candidate learned from, an undefined or low
    metric, another split, the champion's own network with another calibration, a tie or worse.

    `paired` is the difference to the champion on the same cases. The test is one of non-inferiority: the candidate
    must score higher, and its interval may not reach the policy's `worse_by` below the champion.
    """
    against = [
        *candidate.faults,
        *candidate.flattered,
        *(f"a blocking data check fails: {text}" for text in candidate.red_data),
        *(f"a blocking check fails: {text}" for text in candidate.red),
        *candidate.unfit,
    ]
    value = candidate.value
    if value is None or not math.isfinite(value):
        return Decision(False, (*against, f"{metric} is missing or undefined"))
    if value < policy.floor:
        against.append(f"{metric} {value:.4f} is below the floor of {policy.floor:.4f}")
    if champion is None:
        said = f"{metric} {value:.4f} (n = {candidate.n}); there is no champion yet"
        return Decision(not against, tuple(against) or (said,))
    if champion.split_hash != candidate.split_hash:
        against.append(f"measured on split {candidate.split_hash}, the champion on split {champion.split_hash}")
    against += [f"the champion's evidence cannot be used: {fault}" for fault in champion.faults]
    if candidate.network and candidate.network == champion.network:
        against.append("it is the champion's own network with another calibration: that ranks no lesion better")
    if champion.value is None or not math.isfinite(champion.value):
        against.append(f"the champion's {metric} is missing or undefined")
    elif value - champion.value <= policy.margin:
        by = f" by more than {policy.margin:.4f}" if policy.margin else ""
        against.append(f"{metric} {value:.4f} is not better than the champion's {champion.value:.4f}{by}")
        against += [f"the champion's value may be too good: {why}" for why in champion.flattered]
    elif policy.worse_by is not None and (paired is None or paired.low <= -policy.worse_by):
        found = f"{paired.low:+.4f} to {paired.high:+.4f}" if paired else "cannot be computed"
        against.append(
            f"not shown to be non-inferior: the paired 95 % interval of {metric} against the champion, {found}, "
            f"must lie above {-policy.worse_by:+g}"
        )
    else:
        test = f", paired 95 % interval {paired.low:+.4f} to {paired.high:+.4f}" if paired else ""
        said = f"{metric} {value:.4f} against the champion's {champion.value:.4f} on the same {candidate.n} cases{test}"
        return Decision(not against, tuple(against) or (said,))
    return Decision(False, tuple(against))


def evidence_of(task: Task, candidate: ModelVersion, data: Data) -> Evidence:
    """What speaks for a candidate now: measured again where the data have changed since it was trained.

    Raises `DermError` if bundle, evaluation or the dataset cannot be read.
    """
    own = Bundle.open_trusted(candidate.bundle).card.dataset_md5
    present = data.present(task) or own
    if present == own:
        return Evidence.read(task, candidate.bundle, candidate.evaluation, data.dataset(task, own))
    measured = data.measure(task, candidate.bundle, present)
    return Evidence.read(task, candidate.bundle, measured, data.dataset(task, present), own_data=False)


def weigh(task: Task, candidate: Evidence, champion: ModelVersion | None, data: Data) -> Decision:
    """Decide against the champion, measured again where its evaluation is on another split or other data, or cannot be
    used as it is.

    Changes nothing. The same ids may carry corrected labels: only the same dataset makes them the same cases.
    """
    policy = Policy.of(task)
    if champion is None:
        return decide(candidate, None, policy, task.primary_metric)
    if candidate.faults:  # what stands against it alone is enough, and nothing to compare
        return Decision(False, decide(candidate, None, policy, task.primary_metric).reasons)
    try:
        held = _champion_on(task, champion, candidate.dataset_md5, data)
        paired = None if policy.worse_by is None else _paired(task, candidate, held)
    except DermError as error:  # no traceback: the refusal and its reason belong into the ledger
        alone = decide(candidate, None, policy, task.primary_metric)
        return Decision(False, (*refusals(alone), f"the comparison with the champion cannot be made: {error}"))
    return decide(candidate, held, policy, task.primary_metric, paired)


def refusals(decision: Decision) -> Sequence[str]:
    """The reasons against; none where there are only reasons for."""
    return () if decision.promote else decision.reasons


def _champion_on(task: Task, champion: ModelVersion, dataset_md5: str, data: Data) -> Evidence:
    """The champion's evidence on a dataset: as registered if it was measured on it and holds, else measured again."""
    dataset = data.dataset(task, dataset_md5)
    if Evaluation.load(champion.evaluation).dataset_md5 == dataset_md5:
        held = Evidence.read(task, champion.bundle, champion.evaluation, dataset)
        if not held.faults:
            return replace(held, red_data=())
    measured = data.measure(task, champion.bundle, dataset_md5)
    return Evidence.read(task, champion.bundle, measured, dataset, own_data=False)


def _paired(task: Task, candidate: Evidence, champion: Evidence) -> Difference | None:
    """candidate − champion on the same cases; None where there is no such thing, which `decide` then refuses."""
    from derm_ml.evaluation.comparison import (
        primary_difference,  # scipy: whoever only reads a policy does not pay for it
    )

    if candidate.faults or champion.faults or candidate.split_hash != champion.split_hash:
        return None
    return primary_difference(Evaluation.load(Path(candidate.folder)), Evaluation.load(Path(champion.folder)), task)
