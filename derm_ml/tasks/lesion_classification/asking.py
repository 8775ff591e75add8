"""What lesion_classification is asked with, and what it answers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from derm_ml.asking.answers import Answer, PredictionSet, Said
from derm_ml.asking.kinds import OneImage
from derm_ml.asking.options import AGE, LABEL, PREVALENCE, SETS, SEX, SIZE
from derm_ml.asking.prevalence import WHERE_STATED, AtPrevalence


class PointDecision(Said):
    """The decision at one operating point, and what that point reached on the validation split."""

    name: str
    label: str
    threshold: float = Field(description="of the calibrated probability of `label`")
    positive: bool
    sensitivity: float
    sensitivity_low: float = Field(description="one-sided exact 95 % lower bound")
    specificity: float
    positives: int = Field(description="validation images with the label, on which the sensitivity rests")


class DiagnosisAnswer(Answer):
    """The most likely class, the probability of each, and the decision at each operating point."""

    decision_fields: ClassVar = ("predicted", "operating_points")
    number_fields: ClassVar = ("probabilities", "at_prevalence", "prediction_set")

    predicted: str | None
    probabilities: dict[str, float] | None = Field(description="calibrated, by label; they add up to 1")
    operating_points: list[PointDecision] | None
    at_prevalence: AtPrevalence | None = Field(default=None, description=WHERE_STATED)
    prediction_set: PredictionSet | None = Field(default=None, description="only where `sets=yes` was given")


ASKING = OneImage(answer=DiagnosisAnswer, options=(AGE, SEX, LABEL, SIZE, PREVALENCE, SETS))
