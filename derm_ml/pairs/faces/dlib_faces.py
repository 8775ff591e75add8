"""dlib's faces: the HOG detector (needs no file); the CNN, landmarks and recognition, whose files the user supplies.

    find_face(image, DlibHog())
    find_face(image, DlibCnn(Path("mmod_human_face_detector.dat")), DlibLandmarks(Path("shape_predictor_5….dat")))

The 68-point predictor was trained on pictures whose licence excludes commercial use: it is never a default.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from derm_ml.images.geometry import similarity
from derm_ml.pairs.faces.face import EYES, Face, FaceModelError, Point
from derm_ml.pairs.faces.upright import upright

LOGISTIC = 0.9  # of HOG's margin: 0 is its threshold, 2 a clear frontal face
FACE_SIDE = 150  # pixels of the face the recognition network was trained on
EYES_AT = np.array([(48.2, 47.1), (100.8, 47.1)])  # where the middles of the eyes lie in it, as far from its middle


class DlibHog:
    """Histograms of oriented gradients, five sub-detectors (King 2009, JMLR 10). Frontal faces of 80 pixels and more.

    `upsample` doubles the picture that often first, which finds faces of 40 pixels.
    """

    name = "dlib_hog"

    def __init__(self, upsample: int = 0) -> None:
        import dlib

        self._detector = dlib.get_frontal_face_detector()
        self._upsample = upsample
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        with self._lock:
            boxes, margins, _ = self._detector.run(grey, self._upsample, 0.0)
        return [
            Face(_box(box), float(1 / (1 + np.exp(-LOGISTIC * margin))))
            for box, margin in zip(boxes, margins, strict=True)
        ]


class DlibCnn:
    """dlib's convolutional detector (King 2015, arXiv 1502.00046). Half profiles too; seconds a photo on a CPU."""

    name = "dlib_cnn"

    def __init__(self, weights: Path, upsample: int = 0) -> None:
        import dlib

        self._detector = _load(
            weights, dlib.cnn_face_detection_model_v1, "mmod_human_face_detector.dat from dlib's model collection"
        )
        self._upsample = upsample
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> list[Face]:
        with self._lock:
            found = self._detector(np.ascontiguousarray(image), self._upsample)
        return [Face(_box(face.rect), float(min(1.0, face.confidence))) for face in found]


class DlibLandmarks:
    """dlib's shape predictors with 5 or 68 points (Kazemi & Sullivan 2014), told apart by their number of points."""

    name = "dlib_landmarks"

    def __init__(self, weights: Path) -> None:
        import dlib

        self._predictor = _load(
            weights, dlib.shape_predictor, "shape_predictor_5_face_landmarks.dat from dlib's model collection"
        )

    def __call__(self, image: np.ndarray, face: Face) -> Mapping[str, Point]:
        import dlib

        shape = self._predictor(np.ascontiguousarray(image), dlib.rectangle(*(round(v) for v in face.box)))
        return landmarks_by_name(np.array([[p.x, p.y] for p in shape.parts()], float))


class DlibRecognition:
    """Who is who: 128 numbers a face, closer than 0.6 for one person. Thread-safe.

    Where it is there it takes the place of the likeness learned from the training photos (faces/identity.py).
    Source: King, High quality face recognition with deep metric learning, blog.dlib.net 2017 (ResNet-29, three million
    photos, 99.4 % on LFW).
    """

    def __init__(self, weights: Path) -> None:
        import dlib

        self._network = _load(
            weights,
            dlib.face_recognition_model_v1,
            "dlib_face_recognition_resnet_model_v1.dat (`derm fetch dlib_recognition`)",
        )
        self._lock = threading.Lock()

    def signature(self, photo: np.ndarray, face: Face, is_mirrored: bool = False) -> np.ndarray | None:
        """(128,) float32 of a face in an RGB photo, or None where the eyes are not known."""
        eyes = [face.landmarks[name] for name in EYES if name in face.landmarks]
        if len(set(eyes)) < len(EYES):
            return None
        matrix = similarity(np.array(eyes), EYES_AT)
        chip = upright(photo, matrix, FACE_SIDE, is_mirrored)
        with self._lock:
            return np.array(self._network.compute_face_descriptor(chip), np.float32)

    def alike(self, a: np.ndarray, b: np.ndarray) -> float:
        """1 for the same face, above 0.4 for one person, down to -1."""
        return 1 - float(np.linalg.norm(a - b))


def landmarks_by_name(points: np.ndarray) -> dict[str, Point]:
    """dlib's 5 or 68 points (N, 2) by name. Raises `ValueError` for another number.

    Of 68 (iBUG 300-W): 36-41 right eye, 42-47 left eye, 33 base of the nose, 48 and 54 corners of the mouth.
    Of 5: the corners of the left eye, those of the right eye, the base of the nose.
    """
    if len(points) == 68:
        places = {
            "right_eye": points[36:42].mean(axis=0),
            "left_eye": points[42:48].mean(axis=0),
            "right_eye_corner": points[36],
            "left_eye_corner": points[45],
            "nose_base": points[33],
            "right_mouth": points[48],
            "left_mouth": points[54],
        }
    elif len(points) == 5:
        places = {
            "right_eye": points[2:4].mean(axis=0),
            "left_eye": points[0:2].mean(axis=0),
            "right_eye_corner": points[2],
            "left_eye_corner": points[0],
            "nose_base": points[4],
        }
    else:
        raise ValueError(f"dlib's landmarks are 5 or 68 points, these are {len(points)}")
    return {name: (float(x), float(y)) for name, (x, y) in places.items()}


def _box(rectangle) -> tuple[float, float, float, float]:
    return (
        float(rectangle.left()), float(rectangle.top()), float(rectangle.right()), float(rectangle.bottom())
    )  # fmt: skip


def _load(weights: Path, kind, what: str):
    if not weights.is_file():
        raise FaceModelError(f"{weights}: there is no such file; supply {what}")
    try:
        return kind(str(weights))
    except RuntimeError as error:
        raise FaceModelError(f"{weights}: dlib cannot read it ({error}); supply {what}") from error
