"""How often the labels occur where a service is used, as its operator or the policy says: it corrects every answer.

DERM_PREVALENCE=0.02                                                             a service of one task
DERM_PREVALENCE=malignancy_screening=0.02;retinal_findings=dr:0.1,amd:0.05       a service of several

A request that says it itself has its way. Where the setting says nothing of a task, `prevalence` of its policy holds,
which a Bento takes along. What the model cannot use stops the service: answers that are not corrected although somebody
asked for it would pass for corrected ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from derm_ml.asking.options import PREVALENCE, AskingError
from derm_ml.asking.prevalence import PrevalenceError
from derm_ml.bundles.bundle import BundleCard
from derm_ml.promotion.policy import stated_prevalence
from derm_ml.task import Task

SETTING = "DERM_PREVALENCE"


def stated(task: Task, card: BundleCard) -> Mapping[str, str]:
    """The option that setting or policy give to every question about a task; empty where neither says anything of it.

    Raises `PrevalenceError` for one that the model cannot use.
    """
    text = _of(task.name, os.environ.get(SETTING, ""))
    if not text:
        return stated_prevalence(task, card)
    if PREVALENCE.name not in task.asking.known:
        raise PrevalenceError(f"{SETTING}: {task.name} gives no probabilities that could be corrected; unset it")
    try:
        return {PREVALENCE.name: PREVALENCE.read(text, card)}
    except AskingError as error:
        raise PrevalenceError(f"{SETTING}: {error}") from None


def _of(task: str, text: str) -> str:
    parts = [part.strip() for part in text.split(";") if part.strip()]
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    if named:
        return named.get(task, "").strip()
    return parts[0] if parts else ""
