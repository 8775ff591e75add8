"""What the user may set about the data: which diagnoses are malignant. Light to import."""

from __future__ import annotations

from pydantic import Field

from derm_ml.data.diagnoses import malignant_diagnoses
from derm_ml.task import PrepareSettings


class MalignancySettings(PrepareSettings):
    """The section of params.yaml of malignancy_screening.

    Without any of these lists a publisher's own word counts (`benign_malignant`), else what diagnoses.yaml says. Names
    are understood as diagnoses: `bcc` and `Basal cell carcinoma` are one. Melanoma is malignant unless `benign` or
    `left_out` names it. Where `malignant` is set, every other known diagnosis is benign.
    """

    malignant: list[str] = Field(
        default_factory=malignant_diagnoses,
        description="diagnoses that count as malignant; default: those of diagnoses.yaml, unless `benign` "
        "or `left_out` names them. akiec joins actinic keratoses and carcinomas",
    )
    benign: list[str] = Field([], description="names of your own lists or folders that count as benign")
    left_out: list[str] = Field([], description="diagnoses whose images are not used; they are counted")
