"""What a reader of an evaluation must know of the split it was measured on."""

from __future__ import annotations

from derm_ml.bundles.bundle import BundleCard


def of_split(card: BundleCard, split: str, split_hash: str, chosen: str) -> tuple[str, ...]:
    """Sentences for a split that flatters the model: training, validation (where what is `chosen` was chosen), or one
    it was not kept apart from."""
    notes = []
    if split == "validation":
        notes.append(f"{chosen} were chosen on this split: its figures flatter.")
    if split == "train":
        notes.append("The network was fitted to these cases: the figures say nothing about new ones.")
    expected = card.split_hashes.get(split)
    if expected != split_hash:
        notes.append(
            f"This is not the {split} split the model was kept apart from ({expected or 'none is named'}): "
            "images of it may have been seen in training."
        )
    return tuple(notes)
