"""A person approves a challenger: one entry of the ledger, which the next promotion of that version uses up.

    approve(task, number, versions, ledger, by="Dr Ada Example")

An approval is no promotion. The evidence is read again when the version is promoted, and can still refuse it.
"""

from __future__ import annotations

from derm_ml.bundles.bundle import Bundle
from derm_ml.escape import visible
from derm_ml.promotion.contract import CHALLENGER, PromotionError, Versions
from derm_ml.promotion.evidence import network_of
from derm_ml.promotion.ledger import Ledger
from derm_ml.promotion.transaction import champion_of, finish, withdrawn_because
from derm_ml.task import Task


def approve(task: Task, number: int | None, versions: Versions, ledger: Ledger, by: str) -> str:
    """Write down who approved a version (None: the challenger) and return a sentence.

    What a crash cut short is finished first. Raises `PromotionError` without a name, without such a version, for the
    champion itself and for a model that was withdrawn.
    """
    name = visible(" ".join(by.split()))
    if not name:
        raise PromotionError("say who approves it (--by NAME): whoever finds it in the ledger needs to know")
    with ledger.locked():
        finish(task, versions, ledger)
        now = champion_of(task, versions, ledger)
        number = versions.alias(task, CHALLENGER) if number is None else number
        if number is None:
            raise PromotionError(f"{task.name} has no challenger: nothing waits for an approval")
        if number == now.champion:
            raise PromotionError(f"version {number} is the champion of {task.name} already")
        model = Bundle.open_trusted(versions.read(task, number).bundle)
        if why := withdrawn_because(task, model, now):
            raise PromotionError(why)
        ledger.append(
            {
                "event": "approved",
                "task": task.name,
                "version": number,
                "model_version": model.version,
                "network": network_of(model.card),
                "approved_by": name,
                "why": f"approved by {name}",
            }
        )
    return f"version {number} of {task.name} is approved by {name}"
