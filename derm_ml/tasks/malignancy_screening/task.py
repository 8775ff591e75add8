"""malignancy_screening: benign or malignant, recall first."""

from __future__ import annotations

from derm_ml.rules import IMAGE_RULES
from derm_ml.task import Task
from derm_ml.tasks.malignancy_screening.recipes import (
    Drawn,
    FaithfulResnet18,
    FaithfulResnet18Plain,
    FaithfulResnext50,
    Strong,
)
from derm_ml.tasks.malignancy_screening.settings import MalignancySettings

TASK = Task(
    name="malignancy_screening",
    title="Benign or malignant",
    labels=("malignant",),
    recipes={
        "strong": Strong,
        "faithful_resnet18_plain": FaithfulResnet18Plain,
        "faithful_resnet18": FaithfulResnet18,
        "faithful_resnext50": FaithfulResnext50,
        "drawn": Drawn,
    },
    primary_metric="auc_malignant",
    rules=IMAGE_RULES,
    gates=(),
    settings=MalignancySettings,
    negative="benign",
)
