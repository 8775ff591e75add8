"""What came of a model beside another one, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from derm_ml.evaluation.verdicts import NOT_READY, READY, UNKNOWN
from derm_ml.formats import NO_DIFFERENCE
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import in_a_sentence, signed_interval

if TYPE_CHECKING:
    from derm_ml.evaluation.comparison import MetricDifference


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What came of one run in one sentence; `state` colours it."""

    state: str
    sentence: str


def conclusion(row: MetricDifference, reference: str, groups: int, patients: int) -> RunOutcome:
    """Whether the run is better than the reference by this metric, or is not shown to be, or cannot be told."""
    metric = in_a_sentence(metric_named(row.metric).title)
    found = row.difference
    if found is None:
        return RunOutcome(UNKNOWN, f"{row.run} cannot be compared with {reference} by the {metric}: {row.remark}.")
    size = abs(found.value)
    ends = f"95 % interval: {signed_interval(found.low, found.high)}, n = {found.n}"
    way = "higher" if found.value > 0 else "lower"
    said = f"{row.run}: the {metric} is {size:.3f} {way} than that of {reference} ({ends})"
    if round(size, 3) == 0:
        said = f"{row.run}: the {metric} equals that of {reference} to three decimals ({ends})"
    if groups < patients:
        return RunOutcome(
            UNKNOWN, f"{said}: not enough data, {groups} of the {patients} patients that a decision needs."
        )
    if row.verdict == NO_DIFFERENCE:
        return RunOutcome(UNKNOWN, f"{said}: not shown to be better.")
    return (
        RunOutcome(READY, f"{said}: superior.")
        if row.verdict == "better"
        else RunOutcome(NOT_READY, f"{said}: inferior.")
    )
