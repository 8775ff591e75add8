"""Which way up an image is stored, and what follows for boxes and masks that were drawn on it.

A camera stores the sensor's pixels and says in EXIF how to turn them. Some annotation tools turn the image first, some
do not: what was drawn fits one of the two frames, and only its size can say which.

    frame = frame_of(data)             Frame(width=272, height=240, orientation=6): upright it is 240 × 272
    frame.box((10, 20, 30, 40))        a box on the stored pixels → on the upright image
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from derm_ml.images.decode import INGEST_FORMATS, Formats, orientation_and_size
from derm_ml.records import Region

Box = tuple[float, float, float, float]
ASK = "save the image upright, without EXIF, and check what was drawn on it"


@dataclass(frozen=True, slots=True)
class Frame:
    """Pixels across and down as stored, and the EXIF orientation (1 to 8; 1 is upright)."""

    width: int
    height: int
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) once it is turned."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def box(self, box: Box) -> Box:
        """A box x1, y1, x2, y2 on the stored pixels as it lies on the upright image (EXIF 2.32, tag 0x0112)."""
        (xa, ya), (xb, yb) = self._point(*box[:2]), self._point(*box[2:])
        return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)

    def _point(self, x: float, y: float) -> tuple[float, float]:
        w, h = self.width, self.height
        return {
            1: (x, y), 2: (w - x, y), 3: (w - x, h - y), 4: (x, h - y),
            5: (y, x), 6: (h - y, x), 7: (h - y, w - x), 8: (y, w - x),
        }[self.orientation]  # fmt: skip


class WrongFrame(ValueError):
    """What was drawn does not fit the image, or nothing says how it lies on it; the message is for the quarantine."""


def frame_of(data: bytes, formats: Formats = INGEST_FORMATS) -> Frame:
    """The frame of an encoded image. Raises `ImageError` as `decode` does; the pixels are not decoded."""
    orientation, (width, height) = orientation_and_size(data, formats)
    return Frame(width, height, orientation)


def upright_regions(regions: Sequence[Region], frame: Frame) -> tuple[Region, ...]:
    """The regions on the upright image. Raises `WrongFrame` where their file declares another size, or where the image
    is to be turned and nothing says on which of its two frames they were drawn."""
    return tuple(_upright(region, frame) for region in regions)


def _upright(region: Region, frame: Frame) -> Region:
    drawn = region.frame
    if drawn is not None and drawn not in (frame.stored, frame.upright):
        swapped = " (width and height are swapped)" if drawn[::-1] == frame.upright else ""
        raise WrongFrame(
            f"its boxes were drawn on an image of {_size(drawn)} pixels, this one has {_size(frame.upright)}{swapped}; "
            "put the image there that they were drawn on, or export them again"
        )
    if frame.orientation == 1:
        return region
    if drawn is None or frame.stored == frame.upright:
        raise WrongFrame(f"{_turned(frame)}, and nothing says whether its boxes were drawn before or after: {ASK}")
    if drawn == frame.upright:
        return region
    x1, y1, x2, y2 = frame.box(region.box)
    return replace(region, x1=x1, y1=y1, x2=x2, y2=y2, frame=frame.upright)


def turn_of_mask(mask: Frame, image: Frame) -> int:
    """The EXIF orientation by which a mask is to be turned to lie on the upright image; 1 for none.

    Raises `WrongFrame` where the sizes do not fit, and where they cannot say which way up the mask is.
    """
    if mask.upright not in (image.stored, image.upright):
        raise WrongFrame(f"the mask is {_size(mask.upright)} pixels, its image {_size(image.upright)}: no pair")
    if image.orientation == 1:
        if mask.upright != image.upright:
            raise WrongFrame(f"the mask is {_size(mask.upright)} pixels, its image {_size(image.upright)}: no pair")
        return 1
    if mask.orientation != 1:  # it says itself how it is turned
        if mask.upright != image.upright:
            raise WrongFrame(f"{_turned(image)}, its mask by another (EXIF orientation {mask.orientation}): {ASK}")
        return 1
    if image.stored == image.upright:
        raise WrongFrame(f"{_turned(image)}, and nothing says whether its mask was drawn before or after: {ASK}")
    return image.orientation if mask.stored == image.stored else 1


def _turned(frame: Frame) -> str:
    return f"the image is stored turned (EXIF orientation {frame.orientation})"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
