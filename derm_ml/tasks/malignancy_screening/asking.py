"""What malignancy_screening is asked with, and what it answers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from derm_ml.asking.answers import Answer, Said
from derm_ml.asking.kinds import OneImage
from derm_ml.asking.options import AGE, LABEL, POINT, PREVALENCE, SEX, SIZE
from derm_ml.asking.prevalence import WHERE_STATED, AtPrevalence


class ScreeningDecision(Said):
    """The decision at an operating point with its evidence; all but `point` and `why` are null where there is none."""

    point: str
    positive: bool | None
    threshold: float | None
    recall: float | None = Field(description="sensitivity on the validation split")
    recall_at_least: float | None = Field(description="one-sided exact 95 % lower bound of it")
    specificity: float | None
    positives: int | None = Field(description="malignant validation images")
    groups: int | None = Field(description="patients or lesions among them")
    split: str | None
    split_hash: str | None
    why: str = Field(description="the evidence, or why there is no decision")


class Screening(Answer):
    """The calibrated probability of malignancy and the decision at one operating point."""

    decision_fields: ClassVar = ("predicted", "decision")
    number_fields: ClassVar = ("probabilities", "at_prevalence")

    predicted: str | None = Field(description="`malignant`, `benign` or `undecided`")
    probabilities: dict[str, float] | None = Field(description="calibrated, of `malignant`")
    prevalence: float | None = Field(
        description="share of cancers in the validation split; where cancers are rarer, the probability is too high"
    )
    decision: ScreeningDecision | None
    at_prevalence: AtPrevalence | None = Field(default=None, description=WHERE_STATED)


ASKING = OneImage(answer=Screening, options=(AGE, SEX, POINT, LABEL, SIZE, PREVALENCE))
