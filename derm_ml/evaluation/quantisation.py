"""What a report says of 8-bit integers: what they cost on the validation split, as the model's card has it."""

from __future__ import annotations

from derm_ml.bundles.bundle import BundleCard
from derm_ml.metrics.metric import Metric


def int8_metrics(card: BundleCard) -> dict[str, Metric]:
    """`int8_difference` of a model whose graph computes with 8-bit integers, of others nothing."""
    made = card.quantisation
    if made is None:
        return {}
    note = f"on validation, with ranges from {made.images} training images"
    return {"int8_difference": Metric(made.difference, made.low, made.high, made.n, note)}
