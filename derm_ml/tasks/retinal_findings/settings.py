"""What a user may set about the data of retinal_findings: one section of params.yaml."""

from __future__ import annotations

from pydantic import Field

from derm_ml.task import NamedLabels

FINDINGS = ("diabetic_retinopathy", "glaucoma", "normal")


class RetinalSettings(NamedLabels):
    """Which of the findings a table has are modelled."""

    findings: list[str] = Field(list(FINDINGS), description="columns to model; empty: all with enough positives")
    minimum_positives: int = Field(
        30, ge=1, description="images a finding must have to be modelled where `findings` is empty"
    )
