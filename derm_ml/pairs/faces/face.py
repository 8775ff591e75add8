"""A face in a picture, and the two interfaces behind which faces and landmarks are found.

    detector = YuNet(Path("face_detection_yunet.onnx"))          # or DlibHog(), DlibCnn(Path("mmod….dat"))
    face = find_face(image, detector)                            # upright, turned or upside down; None if there is none

Landmarks are named from the patient's side (`right_eye` is left in the picture), so that a mirrored photo only swaps
names. Which there are depends on who found them; two faces are aligned by those they share.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from derm_ml import DermError
from derm_ml.images.geometry import project, resized
from derm_ml.images.preprocess import limit_side

logger = logging.getLogger(__name__)
Point = tuple[float, float]

EYES = ("right_eye", "left_eye")
DETECTION_SIDE = 400  # a face of a fifth of the picture still has 80 pixels; four orientations are looked at
ALIKE = 0.05  # a turned view must be surer than the upright one by this much


class FaceModelError(DermError, RuntimeError):
    """A face model's file is missing or damaged; the message says how to supply it."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face: its box x1, y1, x2, y2 in pixels, how sure the detector is, and its landmarks by name.

    `quarter_turns`: how often the picture must be turned counter-clockwise by 90° for the face to stand upright.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Mapping[str, Point] = field(default_factory=dict)
    quarter_turns: int = 0

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def anchors(self) -> dict[str, Point]:
        """Points to align by: the landmarks, or, without any, the corners of the box from the patient's side."""
        if self.landmarks:
            return dict(self.landmarks)
        x1, y1, x2, y2 = self.box
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]  # clockwise in the picture
        names = ["right_top", "left_top", "left_bottom", "right_bottom"]  # clockwise in the upright face
        turned = [corners[(k + self.quarter_turns) % 4] for k in range(4)]
        return dict(zip(names, turned, strict=True))

    @property
    def inter_ocular(self) -> float:
        """Distance of the eyes' middles in pixels, as if the face were turned to the camera.

        At least 0.42 of the box, which is that of an average face: in a half profile the eyes come close together.
        """
        frontal = 0.42 * float(np.sqrt(self.area))
        if all(name in self.landmarks for name in EYES):
            return max(frontal, float(np.hypot(*np.subtract(self.landmarks[EYES[0]], self.landmarks[EYES[1]]))))
        return frontal

    def resized(self, matrix: np.ndarray) -> Face:
        """The face in the picture resized by what `geometry.resized` gives."""
        x1, y1, x2, y2 = self.box
        (x1, y1), (x2, y2), *points = project(matrix, np.array([(x1, y1), (x2, y2), *self.landmarks.values()])).tolist()
        landmarks = {name: (x, y) for name, (x, y) in zip(self.landmarks, points, strict=True)}
        return replace(self, box=(x1, y1, x2, y2), landmarks=landmarks)


class FaceDetector(Protocol):
    """Finds upright faces in RGB (H, W, 3) uint8, with landmarks if it knows any, in any order."""

    name: str

    def __call__(self, image: np.ndarray) -> list[Face]: ...


class LandmarkModel(Protocol):
    """Finds the landmarks of one upright face of a picture."""

    name: str

    def __call__(self, image: np.ndarray, face: Face) -> Mapping[str, Point]: ...


def find_face(image: np.ndarray, detector: FaceDetector, landmarks: LandmarkModel | None = None) -> Face | None:
    """The face of a photo in pixels of that photo, however it was held, or None.

    All four right-angle orientations are tried; the one with the surest face counts. Of several faces there the
    largest is taken, with a warning.
    """
    small = limit_side(image, DETECTION_SIDE)
    best: list[Face] = []
    for turns in range(4):
        upright = np.ascontiguousarray(np.rot90(small, turns))
        found = detector(upright)
        if found and (not best or _surest(found) > _surest(best) + ALIKE):
            chosen = max(found, key=lambda face: face.area)
            if landmarks:
                chosen = replace(chosen, landmarks=landmarks(upright, chosen))
            best = [_turned_back(chosen, turns, small.shape), *(f for f in found if f is not chosen)]
    if not best:
        return None
    if len(best) > 1:
        logger.warning("%d faces in the image; the largest is taken", len(best))
    return best[0].resized(resized(small.shape, image.shape))


def _surest(faces: list[Face]) -> float:
    return max(face.score for face in faces)


def _turned_back(face: Face, turns: int, shape: tuple[int, ...]) -> Face:
    """A face found in `np.rot90(picture, turns)` in coordinates of the picture."""
    height, width = shape[:2]

    def back(point: Point) -> Point:
        x, y = point
        return ((x, y), (width - 1 - y, x), (width - 1 - x, height - 1 - y), (y, height - 1 - x))[turns]

    ends = [back((face.box[0], face.box[1])), back((face.box[2], face.box[3]))]
    (xa, ya), (xb, yb) = ends
    box = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    return replace(face, box=box, landmarks={name: back(p) for name, p in face.landmarks.items()}, quarter_turns=turns)


def mirrored(face: Face, width: int) -> Face:
    """The face in the picture flipped left to right, of that width: sides change names."""
    swap = {"right": "left", "left": "right"}

    def renamed(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{swap[side]}_{rest}" if side in swap else name

    x1, y1, x2, y2 = face.box
    landmarks = {renamed(name): (width - 1 - x, y) for name, (x, y) in face.landmarks.items()}
    turns = -face.quarter_turns % 4
    return replace(face, box=(width - 1 - x2, y1, width - 1 - x1, y2), landmarks=landmarks, quarter_turns=turns)
