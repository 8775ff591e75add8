"""What the user may set about the data: which diagnoses are malignant. Light to import."""

from __future__ import annotations

from pydantic import Field

from derm_ml.task import PrepareSettings


class MalignancySettings(PrepareSettings):
    """The section of params.yaml of malignancy_screening.

    Melanoma (`melanoma`, HAM10000's `mel`) is malignant in every layout unless `benign` or `left_out` names it. Of the
    other diagnoses those in `malignant` are, those in `left_out` take no part, and all others are benign.
    """

    malignant: list[str] = Field(
        ["mel", "bcc", "akiec"],
        description="diagnoses that count as malignant; akiec joins actinic keratoses and carcinoma in situ",
    )
    benign: list[str] = Field([], description="names of your own lists or folders that count as benign")
    left_out: list[str] = Field([], description="diagnoses whose images are not used; they are counted")
