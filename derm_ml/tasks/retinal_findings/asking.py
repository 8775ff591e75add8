"""What retinal_findings is asked with, and what it answers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from derm_ml.asking.answers import Answer, Said
from derm_ml.asking.kinds import ImageWithFellow
from derm_ml.asking.options import LABEL, PREVALENCE, SIZE
from derm_ml.asking.prevalence import WHERE_STATED, AtPrevalence


class FindingDecision(Said):
    """The decision at one operating point of one finding, and what that point reached on the validation split."""

    name: str
    label: str
    threshold: float = Field(description="of the calibrated probability of `label`")
    sensitivity: float
    sensitivity_low: float = Field(description="one-sided exact 95 % lower bound")
    specificity: float
    positives: int = Field(description="validation images with the finding, on which the sensitivity rests")
    groups: int | None = Field(description="patients among them")
    positive: bool


class Findings(Answer):
    """Probability, threshold and decision of every finding. Findings do not exclude each other."""

    decision_fields: ClassVar = ("present", "decisions", "operating_points")
    number_fields: ClassVar = ("probabilities", "at_prevalence")

    present: str | None = Field(description="the findings decided for, joined by ` + `; `none` without any")
    fellow_share: dict[str, float] = Field(
        description="how much of the other eye's photo went into the logit of each finding; 0 for a photo sent alone"
    )
    probabilities: dict[str, float] | None = Field(description="calibrated, by finding")
    thresholds: dict[str, float]
    decisions: dict[str, bool] | None
    operating_points: list[FindingDecision] | None
    at_prevalence: AtPrevalence | None = Field(default=None, description=WHERE_STATED)


ASKING = ImageWithFellow(answer=Findings, options=(LABEL, SIZE, PREVALENCE))
