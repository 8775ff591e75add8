"""How often the labels occur where a model is used, as a caller or a setting says it.

shares_of("0.02", card)                                          a model of one label
shares_of("melanoma:0.02,nevus:0.9,keratosis:0.08", card)        of classes that exclude each other: all of them
shares_of("dr:0.1,amd:0.05", card)                               of findings that do not: those that are named
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from derm_ml import DermError
from derm_ml.asking.answers import Said

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard

WHERE_STATED = "only where `prevalence` was given, or the service or the policy of the task states it"
ADD_UP = 0.01  # how far shares of classes that exclude each other may be from adding up to 1: they were rounded


class PrevalenceError(DermError, ValueError):
    """Shares that cannot be used with a model; the message never repeats what was sent."""


class AtPrevalence(Said):
    """Corrected for how often the labels occur where the model is used, on the assumption that nothing else differs."""

    prevalence: dict[str, float] = Field(description="share of the labels where the model is used, as it was given")
    trained_at: dict[str, float] = Field(description="their share in the validation split")
    probabilities: dict[str, float] = Field(description="corrected to that prevalence; others stay as they are")
    ppv: dict[str, dict[str, float | None]] = Field(
        description="by label and operating point: of images flagged there, the share that has the label at that "
        "prevalence, from sensitivity and specificity on validation; null where nothing is flagged"
    )


def shares_of(text: str, card: BundleCard) -> dict[str, float]:
    """Label → its share, from a text. Raises `PrevalenceError` saying how one is written."""
    trained = trained_shares(card)
    if not trained:
        raise PrevalenceError("the model has no 'prevalence': it does not say what its probabilities are calibrated to")
    if len(card.labels) == 1:
        return {card.labels[0]: _share(text, f"a number between 0 and 1, the share of {card.labels[0]}")}
    how = f"the share of {'each label' if card.head == 'softmax' else 'a label or several'}, such as {_text(trained)}"
    shares: dict[str, float] = {}
    for part in text.split(","):
        label, _, number = (piece.strip() for piece in part.partition(":"))
        if label not in card.labels or label in shares:
            raise PrevalenceError(f"'prevalence' must be {how}")
        shares[label] = _share(number, how)
    if card.head != "softmax":
        return shares
    whole = sum(shares.values())
    if set(shares) != set(card.labels) or abs(whole - 1) > ADD_UP:
        raise PrevalenceError(f"'prevalence' must be {how}; together they must be 1")
    return {label: shares[label] / whole for label in card.labels}


def text_of(shares: Mapping[str, float], card: BundleCard) -> str:
    """Shares as `shares_of` reads them."""
    return f"{next(iter(shares.values())):.6g}" if len(card.labels) == 1 else _text(shares)


def trained_shares(card: BundleCard) -> dict[str, float]:
    """What the probabilities of a model are calibrated to; empty where it does not say, or a label did not occur."""
    shares = {label: card.prevalence.get(label, 0.0) for label in card.labels}
    return shares if all(0 < share < 1 for share in shares.values()) else {}


def _share(text: str, how: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise PrevalenceError(f"'prevalence' must be {how}; a share lies between 0 and 1")
    return share


def _text(shares: Mapping[str, float]) -> str:
    return ",".join(f"{label}:{share:.6g}" for label, share in shares.items())
