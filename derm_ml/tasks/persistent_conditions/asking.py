"""What persistent_conditions is asked with, and what it answers."""

from __future__ import annotations

from pydantic import Field

from derm_ml.asking.answers import Answer, Said
from derm_ml.asking.kinds import PairWithBoxes
from derm_ml.asking.pair import State


class RegistrationFacts(Said):
    """How the photos were laid over each other."""

    method: str
    mirrored: bool = Field(description="a selfie camera's photo")
    faces: bool = Field(description="found in both")
    points_that_return: float = Field(description="share, 0 to 1")
    features_that_agree: int
    homography: list[float] = Field(
        description="3 × 3, row by row: pixels of the first photo as sent → pixels of the second as sent, before the "
        "smooth rest",
        min_length=9,
        max_length=9,
    )


class BoxMatch(Said):
    """Two boxes that show one condition, by their numbers as sent, from 0."""

    first: int
    second: int
    label: str
    confidence: float
    size_change: float = Field(description="area over the area it would have unchanged")
    overlap: float = Field(description="0 to 1")
    distance: float = Field(description="in distances between the eyes")


class BoxState(Said):
    """What became of one box; without a state where the pair was refused."""

    number: int
    label: str
    state: State | None = None
    confidence: float | None = None


class Visits(Answer):
    """Matches with confidence and change of size and the state of every box, or a refusal with its reason."""

    accepted: bool
    reason: str = Field(description="of a refusal")
    probability_same_skin: float | None = Field(description="calibrated; null if nothing could be registered")
    registration: RegistrationFacts | None
    matches: list[BoxMatch]
    first: list[BoxState]
    second: list[BoxState]


ASKING = PairWithBoxes(answer=Visits)
