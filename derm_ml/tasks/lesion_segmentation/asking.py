"""What lesion_segmentation is asked with, and what it answers. Coordinates are pixels of the upright image."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from derm_ml.asking.answers import Answer, Said
from derm_ml.asking.kinds import OneImage
from derm_ml.asking.options import SIZE, Option

MASK = Option("mask", "the form of the mask", choices=("png", "rle", "polygon"), default="png", for_programs=True)


class BoundingBox(Said):
    """The smallest upright box around the mask, in pixels."""

    left: int
    top: int
    width: int
    height: int


class PngMask(Said):
    """A mask as an image of 0 and 255."""

    format: Literal["png"]
    data: str = Field(description="base64 of the PNG")


class RunLengths(Said):
    """A mask as COCO's uncompressed runs."""

    format: Literal["rle"]
    size: tuple[int, int] = Field(description="height and width")
    counts: list[int] = Field(description="runs down the columns, the first of 0")


class Polygons(Said):
    """A mask as polygons, the largest first."""

    format: Literal["polygon"]
    polygons: list[list[list[tuple[int, int]]]] = Field(
        description="of each polygon its rings, first the outline and then the holes; of each ring its [x, y]"
    )


class Outline(Answer):
    """The mask of the lesion and its share, box and confidence."""

    number_fields: ClassVar = ("area_share", "bounding_box", "confidence", "mask")

    width: int
    height: int
    area_share: float | None = Field(description="of the image, 0 to 1")
    bounding_box: BoundingBox | None = Field(description="null where there is no lesion")
    confidence: float | None = Field(description="the Dice that the network expects of its mask, 0 to 1")
    mask: Annotated[PngMask | RunLengths | Polygons, Field(discriminator="format")] | None


ASKING = OneImage(answer=Outline, options=(MASK, SIZE))
