"""An operating point: a threshold and the evidence for it, as a bundle keeps it. `operating_points.py` fits them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

# where a threshold may be fitted, never the test split: the model's own validation split, or labelled cases of the
# place of use
FittedOn = Literal["validation", "local"]
_CASES: dict[FittedOn, str] = {"validation": "validation", "local": "the local set"}


class OperatingPoint(BaseModel, extra="forbid", frozen=True):
    """A threshold on the calibrated probability of `label`, fitted on the split named by `split_hash`."""

    name: str
    label: str
    threshold: float = Field(ge=0, le=1)
    split: FittedOn = "validation"
    split_hash: str
    sensitivity: float
    sensitivity_low: float  # exact (Clopper-Pearson) one-sided 95 % lower bound, of images and of groups the lower
    specificity: float
    positives: int
    groups: int | None = None  # distinct patients or lesions among the positives, on which the bound rests

    @property
    def recall_at_least(self) -> float | None:
        """`sensitivity_low` where it is a valid bound; None at the balanced point.

        There the threshold was searched for on the cases that would prove it; a threshold at a fixed rank of the
        positives, or one that rests on the negatives alone, leaves the bound exact.
        """
        return None if self.name == "balanced" else self.sensitivity_low


class UnclaimedPoint(BaseModel, extra="forbid", frozen=True):
    """A point that was asked for and cannot be claimed.

    A `recall`, because too few positive groups would prove it even without a miss (`needed`); or a `specificity`,
    because no threshold spares more than the share `reached` of the negatives.
    """

    name: str
    label: str
    recall: float | None = None
    specificity: float | None = None
    split: FittedOn = "validation"
    split_hash: str
    positives: int
    groups: int | None = None  # distinct patients or lesions among them; None: each positive is one
    needed: int = 0
    reached: float | None = None

    @property
    def reason(self) -> str:
        if self.reached is not None:
            return f"no threshold spares more than {self.reached:.3f} of the negatives in {_CASES[self.split]}"
        if self.groups is None or self.groups == self.positives:
            return f"{self.needed:,} positive {self.split} cases are needed, {self.positives:,} are available"
        return (
            f"{self.needed:,} different positive patients or lesions are needed, {_CASES[self.split]} has "
            f"{self.groups:,} ({self.positives:,} images)"
        )
