"""What a reader of an evaluation must know of the split it was measured on."""

from __future__ import annotations

from derm_ml.bundles.bundle import BundleCard
from derm_ml.records import RECENT

GROWS = "The recent split grows with deliveries: compare models on it only where its hash is the same."


def of_split(card: BundleCard, split: str, split_hash: str, chosen: str) -> tuple[str, ...]:
    """Sentences for a split that flatters the model: training, validation (where what is `chosen` was chosen), or one
    it was not kept apart from."""
    notes = []
    if split == "validation":
        notes.append(f"{chosen} were chosen on this split: its figures flatter.")
    if split == "train":
        notes.append("The network was fitted to these cases: the figures say nothing about new ones.")
    if split == RECENT:
        notes.append(GROWS)
    elif card.split_hashes.get(split) != split_hash:
        notes.append(apart(card, split))
    return tuple(notes)


def of_local_cases(card: BundleCard, dataset_md5: str) -> tuple[str, ...]:
    """What calibration and operating points were fitted on, if not on the model's own validation split."""
    local = card.local_cases
    if local is None:
        return ()
    fitted = f"Probabilities and operating points were fitted on {local.images} local images of {local.groups} groups"
    if local.dataset_md5 == dataset_md5:
        return (f"{fitted} of this very set, none of them in its test split.",)
    return (f"{fitted} (dataset {local.dataset_md5[:12]}): what they reach here says nothing about that place.",)


def apart(card: BundleCard, split: str) -> str:
    """The sentence for another split than the model's own."""
    known = card.split_hashes.get(split) or "none is named"
    return (
        f"This is not the {split} split the model was kept apart from ({known}): "
        "images of it may have been seen in training."
    )
