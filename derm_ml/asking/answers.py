"""What answers are made of. A task's own answer is a pydantic model of its folder, derived from `Answer`.

Who made an answer (task, model version, dataset) is added where it leaves the library, and that it is for research only
where it leaves the program: neither is repeated in each task.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Said(BaseModel):
    """Base of everything that is answered: a field nobody declared is an error, not an undocumented extra."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(Said):
    """Base of what a task says of one image or pair."""


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
