"""Promote or not: the same evidence gives the same decision.

decision = weigh(task, evidence_of(task, candidate, data), champion, data)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml import DermError, formats
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.verdicts import NOTED, UNKNOWN, Verdict, unchecked
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import in_a_sentence, signed_interval
from derm_ml.promotion.contract import Data, ModelVersion
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.external_gate import validated
from derm_ml.promotion.looks import Looked
from derm_ml.promotion.policy import Policy
from derm_ml.promotion.trial_gate import tried

if TYPE_CHECKING:
    from derm_ml.metrics.intervals import Difference
    from derm_ml.task import Task


ONE_LOOK = Looked()
TOO_LITTLE = UNKNOWN  # how a reason begins that shows nothing wrong


@dataclass(frozen=True, slots=True)
class Decision:
    """Promote or not, why in sentences, and everything that was looked at. `already`: it is the champion as it is."""

    promote: bool
    reasons: tuple[str, ...]
    checks: tuple[Verdict, ...] = ()
    already: bool = False

    @classmethod
    def champion_already(cls, number: int) -> Decision:
        """Nothing was weighed: nobody is compared with itself."""
        return cls(True, (f"version {number} is the champion already: there is nothing to promote",), already=True)


def decide(
    candidate: Evidence,
    champion: Evidence | None,
    policy: Policy,
    metric: str,
    paired: Difference | None = None,
    looked: Looked = ONE_LOOK,
) -> Decision:
    """Refuse on faults, failed blocking checks of model or data, images the candidate learned from, an undefined or low
    metric, another split, the champion's own network with another calibration, a tie or worse, too few patients.

    `paired` is the difference to the champion on the same cases, its interval as wide as `looked` asks for. The
    candidate must score higher, and the interval may not reach down to the policy's `least_difference`: 0 (a test of
    superiority), or as far below as `worse_by` says (of non-inferiority). Without a champion the floor must hold when
    what the best of many looks gains by luck is taken off.
    """
    metric = in_a_sentence(metric_named(metric).title)
    against = [
        *candidate.faults,
        *candidate.flattered,
        *(f"a blocking data check fails: {text}" for text in candidate.red_data),
        *candidate.red,
        *candidate.unfit,
    ]
    value = candidate.value
    if value is None or not math.isfinite(value):
        return Decision(False, (*against, f"{TOO_LITTLE}: {metric} is missing or undefined"))
    against += _below_floor(candidate, value, policy, metric, looked)
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
    elif paired is not None and paired.groups < policy.patients:
        against.append(
            f"{TOO_LITTLE}: the test split has {paired.groups} patients, a comparison needs {policy.patients}"
        )
    elif paired is None or paired.low <= policy.least_difference:
        shown = "better" if policy.worse_by is None else "non-inferior"
        against.append(
            f"not shown to be {shown}: the paired 95 % interval of {metric} against the champion, "
            f"{_interval(paired, looked)}, must lie above {policy.least_difference:+g}"
        )
    else:
        said = (
            f"{metric} {value:.4f} against the champion's {champion.value:.4f} on the same {candidate.n} cases, "
            f"paired 95 % interval {_interval(paired, looked)}, above {policy.least_difference:+g}"
        )
        return Decision(not against, tuple(against) or (said,))
    return Decision(False, tuple(against))


def _below_floor(candidate: Evidence, value: float, policy: Policy, metric: str, looked: Looked) -> list[str]:
    if value < policy.floor:
        return [f"{metric} {value:.4f} is below the floor of {policy.floor:.4f}"]
    if candidate.low is None or not math.isfinite(candidate.low):
        return []
    once = ONE_LOOK.reach
    by_luck = (looked.reach - once) / once * max(0.0, value - candidate.low)
    if value - by_luck >= policy.floor:
        return []
    return [
        f"{metric} {value:.4f} is below the floor of {policy.floor:.4f} when the {by_luck:.4f} are taken off that "
        f"{looked} can gain by luck"
    ]


def _interval(paired: Difference | None, looked: Looked) -> str:
    if paired is None:
        return "cannot be computed"
    wider = f" ({looked.reach:.2f} instead of 1.96 standard deviations: {looked})" if looked.models > 1 else ""
    return f"{signed_interval(paired.low, paired.high, 4)}{wider}"


def evidence_of(task: Task, candidate: ModelVersion, data: Data) -> Evidence:
    """What speaks for a candidate now: measured again where the data have changed since it was trained, or where an
    earlier version of the program measured it otherwise.

    Raises `DermError` if bundle, evaluation or the dataset cannot be read.
    """
    own = Bundle.open_trusted(candidate.bundle).card.dataset_md5
    present = data.present(task) or own
    if present == own and Evaluation.load(candidate.evaluation).format_version >= formats.MEASURED_AS_TODAY:
        evidence = Evidence.read(task, candidate.bundle, candidate.evaluation, data.dataset(task, own))
    else:
        measured = data.measure(task, candidate.bundle, present)
        evidence = Evidence.read(task, candidate.bundle, measured, data.dataset(task, present), own_data=False)
    if evidence.faults:  # enough to refuse it: nothing more is measured
        return evidence
    return replace(evidence, external=validated(task, candidate, data))


def weigh(
    task: Task, candidate: Evidence, champion: ModelVersion | None, data: Data, looked: Looked = ONE_LOOK
) -> Decision:
    """Decide against the champion, measured again where its evaluation is on another split or other data, or cannot be
    used as it is.

    Changes nothing. The same ids may carry corrected labels: only the same dataset makes them the same cases.
    """
    found, held = _weighed(task, candidate, champion, data, looked)
    trial = tried(task, candidate, held, data) if champion is None or held is not None else None
    beside = [verdict for verdict in (candidate.external, trial) if verdict is not None]
    stopped = [f"{verdict.check}: {verdict.evidence}" for verdict in beside if verdict.stops]
    if stopped:
        found = Decision(False, (*refusals(found), *stopped))
    against, in_favour = (() if found.promote else found.reasons), (found.reasons if found.promote else ())
    own = [reason for reason in against if reason not in stopped]
    checks = (*verdicts(candidate, own, in_favour), *beside, *_recent(candidate, held))
    return Decision(found.promote, (*found.reasons, *unchecked(checks)), checks)


def _weighed(
    task: Task, candidate: Evidence, champion: ModelVersion | None, data: Data, looked: Looked
) -> tuple[Decision, Evidence | None]:
    """The decision, and what speaks for the champion where the two were compared."""
    policy = Policy.of(task)
    if champion is None:
        return decide(candidate, None, policy, task.primary_metric, looked=looked), None
    if candidate.faults:  # what stands against it alone is enough, and nothing to compare
        return Decision(False, decide(candidate, None, policy, task.primary_metric).reasons), None
    try:
        held = _champion_on(task, champion, candidate.dataset_md5, data)
        paired = _paired(task, candidate, held, looked.reach)
    except DermError as error:  # no traceback: the refusal and its reason belong into the ledger
        alone = decide(candidate, None, policy, task.primary_metric)
        return Decision(False, (*refusals(alone), f"the comparison with the champion cannot be made: {error}")), None
    return decide(candidate, held, policy, task.primary_metric, paired, looked), held


def _recent(candidate: Evidence, champion: Evidence | None) -> list[Verdict]:
    """A row that informs and decides nothing: what both reach on recent patients, as their evaluations say."""
    if not candidate.recent:
        return []
    beside = f"; the champion: {champion.recent}" if champion is not None and champion.recent else ""
    hazard = "a model that no longer holds for those who come today"
    return [Verdict("recent_patients", f"{candidate.recent}{beside}", NOTED, hazard, blocking=False)]


def verdicts(evidence: Evidence, refused_for: Sequence[str], accepted_for: Sequence[str]) -> tuple[Verdict, ...]:
    """Files, test split, data and every gate, then the policy: of the reasons those that are none of the others'."""
    told = (*evidence.faults, *evidence.flattered, *evidence.red_data, *evidence.red, *evidence.unfit)
    policy = [reason for reason in refused_for if not any(text in reason for text in told)]
    predicted = f"metrics counted again, {evidence.repeated} cases predicted again"
    return (
        Verdict.against("files_agree", evidence.faults, predicted, "a result that was edited or is of another model"),
        Verdict.against(
            "learned_from_no_test_image", evidence.flattered, "none was learned from", "a result nobody reaches in use"
        ),
        Verdict.against("data_checks", evidence.red_data, "the blocking ones hold", "a result on data that are wrong"),
        *evidence.checks,
        Verdict.against(
            "cards_and_licences",
            evidence.unfit,
            "no mandatory field is empty, the licences fit the target",
            "use that nobody can judge, or that its images do not allow",
        ),
        _of_policy(policy, accepted_for),
    )


def _of_policy(against: Sequence[str], accepted_for: Sequence[str]) -> Verdict:
    """Grey where the only reasons are that too little is known: it refuses all the same."""
    hazard = "a model that is worse than the one in use"
    if against and all(reason.startswith(TOO_LITTLE) for reason in against):
        return Verdict("policy", "; ".join(against), UNKNOWN, hazard, needed=True)
    return Verdict.against("policy", against, "; ".join(accepted_for) or "nothing more stands against it", hazard)


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


def _paired(task: Task, candidate: Evidence, champion: Evidence, reach: float) -> Difference | None:
    """candidate − champion on the same cases; None where there is no such thing, which `decide` then refuses."""
    from derm_ml.evaluation.comparison import (
        primary_difference,  # scipy: whoever only reads a policy does not pay for it
    )

    if candidate.faults or champion.faults or candidate.split_hash != champion.split_hash:
        return None
    ours, theirs = (Evaluation.load(Path(one.folder)) for one in (candidate, champion))
    return primary_difference(ours, theirs, task, reach)
