"""Identifiers as a reader writes them."""

from __future__ import annotations

CAPITALS = {"auc": "AUC", "ece": "ECE", "roc": "ROC", "ppv": "PPV", "npv": "NPV", "id": "ID"}


def readable(name: str) -> str:
    """`auc_seborrheic_keratosis` → `AUC seborrheic keratosis`."""
    return " ".join(CAPITALS.get(part, part) for part in name.split("_") if part)


def headed(name: str) -> str:
    """The same with a capital first letter, for headings; symbols such as `n` stay small."""
    text = readable(name)
    return text if len(text) == 1 else text[:1].upper() + text[1:]
