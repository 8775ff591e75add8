"""What the user may set about the data of lesion_classification: one section of params.yaml."""

from __future__ import annotations

from derm_ml.task import NamedLabels


class LesionSettings(NamedLabels):
    """What the names of your own lists and folders mean (`labels`); those of diagnoses.yaml are known."""
