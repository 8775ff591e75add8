"""What answers are made of. A task's own answer is a pydantic model of its folder, derived from `Answer`.

What is common to all answers (who answers, what to know before it is used, that it is for research only) stands in one
`Envelope`, which `Task` puts around them: no task repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from derm_ml import RESEARCH_USE

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard

SYNTHETIC = (
    "The model was trained on synthetic images, or with a recipe for them: its answers show how the program works and "
    "say nothing about a person."
)
NO_GATE = "The model has no input gate: it answers about any image, also one of something else."


class Said(BaseModel):
    """Base of everything that is answered: a field nobody declared is an error, not an undocumented extra."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Quality = Literal["sufficient", "too_small", "dark", "blank", "blurred", "frame", "unknown"]


class Fitness(Said):
    """Whether the model is fit to answer about an image, by its input gate. Without an input gate nothing is known."""

    quality: Quality = Field(
        default="unknown",
        description="`sufficient`, or the first thing that is wrong: too few pixels, too dark, blank, blurred, or "
        "mostly a black or white frame; `unknown` where the model has no input gate",
    )
    in_distribution: float | None = Field(
        default=None,
        description="how much the image is like those the model was trained on, 0 to 1; no probability: the model "
        "abstains below 0.5. null where the model has no input gate",
    )
    abstained: bool = Field(default=False, description="the model gives no decision about this image")
    abstained_because: str = Field(default="", description="why, in a sentence; empty where it did not abstain")


class Answer(Fitness):
    """Base of what a task says of one image or pair.

    Where the model abstains, the fields named in `decision_fields` are null, and those in `number_fields` too unless
    they are asked for (`abstained=numbers`).
    """

    decision_fields: ClassVar[tuple[str, ...]] = ()
    number_fields: ClassVar[tuple[str, ...]] = ()

    def told(self, with_numbers: bool) -> dict[str, Any]:
        """The fields of the answer as JSON would hold them: whether the model is fit to answer last."""
        said = self.model_dump(mode="json", exclude_unset=True)
        fitness = {name: getattr(self, name) for name in Fitness.model_fields}
        if self.abstained:
            withheld = self.decision_fields if with_numbers else (*self.decision_fields, *self.number_fields)
            said |= dict.fromkeys(name for name in withheld if name in said)
        return {name: value for name, value in said.items() if name not in fitness} | fitness


class PredictionSet(Said):
    """The classes that cannot be ruled out. Held for each class by itself, so however often the classes occur."""

    classes: list[str] = Field(
        description="an empty set: validation held nothing like this image. All classes: nothing is ruled out"
    )
    holds: float = Field(
        description="share of new cases of each class that have it in their set, on average over validation sets and "
        "new cases of the same kind: no promise for one person, a subgroup or another camera"
    )
    limits: dict[str, float] = Field(
        description="least probability of each class in a set, fitted on validation; 0 where it had too few patients, "
        "and the class is in every set"
    )


class Envelope(Said):
    """What is common to all answers: who answers, and what to know before the answer is used."""

    task: str
    model_version: str = Field(description="first 12 hex digits of the sha256 of the model's card")
    dataset_md5: str = Field(description="DVC's md5 of the dataset that the model was trained on")
    for_synthetic_images: bool = Field(
        description="trained on synthetic images, or with a recipe for them: a demonstration only"
    )
    licences: list[str] = Field(description="of the images that the model learned from")
    warnings: list[str] = Field(description="what to know before the answer is used, one sentence each")
    research_use: str = Field(description=RESEARCH_USE)

    @classmethod
    def of(cls, card: BundleCard, model_version: str, warnings: tuple[str, ...] = ()) -> Envelope:
        """The envelope of all answers of a model; `warnings` are those of this question."""
        return cls(
            task=card.task,
            model_version=model_version,
            dataset_md5=card.dataset_md5,
            for_synthetic_images=card.for_synthetic_images,
            licences=sorted(card.licences),
            warnings=[
                *([SYNTHETIC] if card.for_synthetic_images else []),
                *([] if card.has_gate or card.head == "pairs" else [NO_GATE]),
                *warnings,
            ],
            research_use=RESEARCH_USE,
        )

    def around(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """An answer in its envelope: `task` first, then what is said, then the rest."""
        own = self.model_dump(mode="json")
        return {"task": own.pop("task"), **said, **own}


# what follows an answer, as columns too
FOOT = (*(name for name in Envelope.model_fields if name != "task"), *Fitness.model_fields)


class Png(Said):
    """A PNG image as base64."""

    format: Literal["png"] = "png"
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    data: str = Field(description="base64 of the PNG")


class Layer(Said):
    """Something the model saw in the image, to be laid over it."""

    label: str
    probability: float | None = Field(default=None, description="calibrated, 0 to 1")
    grid: tuple[int, int] | None = Field(default=None, description="rows and columns of `map`")
    map: list[list[float]] | None = Field(
        default=None,
        description="Grad-CAM of the label over the square that the network saw: ≥ 0, not normalised, row by row",
    )
    overlay: Png = Field(description="greyscale, in the frame of the upright image: 0 nothing, 255 most")


class Explanation(Said):
    """What an answer rests on, as numbers; the answer is the one that /predict or /match gives."""

    kind: Literal["heatmap", "outline", "matches"]
    width: int = Field(description="of the upright image as sent (of a pair: of the first), in pixels")
    height: int = Field(description="of the upright image as sent (of a pair: of the first), in pixels")
    layers: list[Layer] = Field(description="what to lay over the image")
    drawing: Png | None = Field(default=None, description="the finished image, where layers cannot show it (a pair)")
