"""The kinds of questions: one image, an image and its fellow, two photos with boxes.

A task names its kind in `derm_ml/tasks/<task>/asking.py`:

    ASKING = OneImage(answer=Diagnosis, options=(AGE, SEX, LABEL))

Each kind knows how its question is sent (path, parts of the form, limits), how it becomes arrays, and how a held-out
case becomes the bytes of a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from derm_ml.asking.answers import Answer
from derm_ml.asking.boxes import BOX_BYTES, read_boxes
from derm_ml.asking.form import form_body
from derm_ml.asking.options import ABSTAINED, ANSWER, AskingError, Option, read_options
from derm_ml.asking.pair import FIRST, SECOND, Pair, box_fault

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.data.dataset import Dataset

IMAGE, BOXES = "image", "boxes"  # parts of a form, beside `first` and `second`
BATCH = 64  # images in one request
BATCH_BYTES = 64 * 2**20  # of such a request: 64 dermoscopic images, or ten photos as large as one may be
RAW = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form: an image, or the boxes of both photos."""

    name: str
    help: str
    is_image: bool = True
    is_required: bool = True


@dataclass(frozen=True)
class Asking:
    """What a task is asked with: its kind (the class), the model of its answer, and its options."""

    answer: type[Answer]
    options: tuple[Option, ...] = ()

    path: ClassVar[str] = "/predict"
    verb: ClassVar[str] = "predict"  # of the command line
    about: ClassVar[str]  # in words
    takes_bytes: ClassVar[bool] = True  # an image alone may be the body
    takes_batches: ClassVar[bool] = True
    withholds: ClassVar[bool] = True  # an answer holds nothing where the model abstains, unless it is asked for
    parts: ClassVar[tuple[Part, ...]] = ()  # of a form that asks one question

    def __post_init__(self) -> None:
        if self.withholds:  # every task of this kind takes it, whoever wrote the task
            object.__setattr__(self, "options", (*self.options, ABSTAINED))

    @property
    def whole(self) -> dict[str, str]:
        """The options with which an answer holds its numbers whether the model abstains or not."""
        return {ABSTAINED.name: "numbers"} if self.withholds else {}

    @property
    def known(self) -> Mapping[str, Option]:
        return {option.name: option for option in self.options}

    @property
    def body_bytes(self) -> int:
        """The largest body of one question."""
        from derm_ml.images.decode import UPLOAD_FORMATS

        one = UPLOAD_FORMATS.max_bytes
        return sum(one if part.is_image else 2 * BOX_BYTES for part in self.parts) or one

    def options_for(self, what: str) -> dict[str, Option]:
        """The options of an answer or of an explanation, by name."""
        return {name: option for name, option in self.known.items() if what in option.used_for}

    def read(self, given: Mapping[str, str], card: BundleCard | None = None) -> dict[str, str]:
        """Checked options of a question that is not sent over a network. Raises `AskingError`."""
        return read_options(given.items(), self.known, card)

    def facts(self, attributes: Mapping[str, str | float]) -> dict[str, str | float]:
        """What is known of a person as options: those a predictor counts as missing (an age of NaN) are left out."""
        found: dict[str, str | float] = {}
        for option in self.options_for(ANSWER).values():
            value = attributes.get(option.name, "")
            if not option.is_attribute or value == "":
                continue
            try:
                option.read(str(value))
            except AskingError:
                continue
            found[option.name] = value
        return found

    def longest(self, card: BundleCard) -> int:
        """The longer side to which images are shrunk when they are decoded; 0: the answer needs them as sent."""
        return 0

    def decoded(self, parts: Mapping[str, bytes], labels: tuple[str, ...], longest: int = 0) -> np.ndarray | Pair:
        """The parts of a request (`image` alone, or those of the form) as arrays, shrunk to `longest` (0: as sent).

        Raises `ImageError` or `AskingError` with a sentence for the person who sent it; it repeats nothing they sent.
        """
        return _decoded(parts[IMAGE], longest)[0]

    def request(self, parts: Mapping[str, bytes]) -> tuple[bytes, str]:
        """(body, content type) of a request: the bytes of `image` alone, or a form of the named parts."""
        if IMAGE in parts:
            return parts[IMAGE], RAW
        images = {part.name: parts[part.name] for part in self.parts if part.is_image and part.name in parts}
        fields = {name: data.decode("utf-8") for name, data in parts.items() if name not in images}
        return form_body(images, fields)

    def fellows(self, dataset: Dataset, rows: pd.DataFrame) -> list[int]:
        """For each row of a split the place of the row that is sent along with it, -1 if none is."""
        return [-1] * len(rows)


@dataclass(frozen=True)
class OneImage(Asking):
    """Asked about one image."""

    about: ClassVar[str] = "one image"


@dataclass(frozen=True)
class ImageWithFellow(Asking):
    """Asked about one image; that of the fellow organ (the other eye of the same person) may come with it."""

    about: ClassVar[str] = "one image, and optionally that of the fellow eye"
    parts: ClassVar[tuple[Part, ...]] = (
        Part(FIRST, "the eye in question"),
        Part(SECOND, "the same person's other eye"),
    )

    def longest(self, card: BundleCard) -> int:
        """Two images of 40 megapixels are a lot of memory for one question: only what the model looks at is kept."""
        return card.preprocessing.store_side

    def decoded(self, parts: Mapping[str, bytes], labels: tuple[str, ...], longest: int = 0) -> np.ndarray | Pair:
        if IMAGE in parts:
            return _decoded(parts[IMAGE], longest)[0]
        return Pair(_decoded(parts[FIRST], longest)[0], _decoded(parts[SECOND], longest)[0])

    def fellows(self, dataset: Dataset, rows: pd.DataFrame) -> list[int]:
        return [int(place) for place in dataset.fellows(rows)]


@dataclass(frozen=True)
class PairWithBoxes(Asking):
    """Asked about two photos of one person, with boxes around conditions."""

    path: ClassVar[str] = "/match"
    verb: ClassVar[str] = "match"
    about: ClassVar[str] = "two photos"
    takes_bytes: ClassVar[bool] = False
    takes_batches: ClassVar[bool] = False
    withholds: ClassVar[bool] = False  # a pair that cannot be answered is refused with a reason
    parts: ClassVar[tuple[Part, ...]] = (
        Part(FIRST, "the photo of the first visit"),
        Part(SECOND, "the photo of the second visit"),
        Part(
            BOXES, "the conditions in both photos, as JSON; without them the photos are only registered", False, False
        ),
    )

    def longest(self, card: BundleCard) -> int:
        """Only what the model looks at is kept of two large photos."""
        return card.preprocessing.store_side

    def decoded(self, parts: Mapping[str, bytes], labels: tuple[str, ...], longest: int = 0) -> Pair:
        """Boxes are shrunk with their photos, one photo after the other: never are two large ones in memory."""
        boxes = read_boxes(parts.get(BOXES, b""), labels)
        images, regions, sizes = [], [], []
        for name in (FIRST, SECOND):
            image, (height, width) = _decoded(parts[name], longest)
            for number, box in enumerate(boxes[name]):
                if fault := box_fault(box, width, height):
                    raise AskingError(f"box {number} of the {name} photo {fault}")
            across, down = image.shape[1] / width, image.shape[0] / height
            images.append(image)
            regions.append(tuple(box.scaled(across, down) for box in boxes[name]))
            sizes.append((height, width))
        return Pair(images[0], images[1], regions[0], regions[1], (sizes[0], sizes[1]))


def _decoded(data: bytes, longest: int) -> tuple[np.ndarray, tuple[int, int]]:
    """An image of at most that side, and its (height, width) as sent."""
    from derm_ml.images.decode import decode
    from derm_ml.images.preprocess import limit_side

    image = decode(data)
    height, width = image.shape[:2]
    return limit_side(image, longest), (height, width)
