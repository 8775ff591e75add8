"""Which face detector and landmarks a recipe asks for, and the files a bundle takes along so that it needs no path.

detector, landmarks = chosen_faces(resolved(FaceSettings()))
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from derm_ml.pairs.faces.dlib_faces import DlibCnn, DlibHog, DlibLandmarks, DlibRecognition
from derm_ml.pairs.faces.face import FaceDetector, LandmarkModel
from derm_ml.pairs.faces.yunet import YuNet
from derm_ml.pairs.settings import Detector
from derm_ml.places import installation

logger = logging.getLogger(__name__)
FILES = {"yunet": "face_detector.onnx", "dlib_cnn": "face_detector.dat"}  # what they are called in a bundle
LANDMARKS = "face_landmarks.dat"
RECOGNITION = "face_recognition.dat"


class FaceSettings(BaseModel):
    """How faces are found. `auto` is YuNet where its file is there, else dlib's HOG detector, which needs none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: Detector = "auto"
    weights: str = Field("", description="file of YuNet or the dlib CNN; empty: where `derm fetch yunet` puts it")
    landmarks: str = Field("", description="file of dlib's 5 or 68 points; empty: YuNet's own, or the box alone")
    recognition: str = Field("", description="file of dlib's face recognition; empty: the training photos teach it")


def resolved(settings: FaceSettings) -> FaceSettings:
    """The settings with `auto` decided and the files named. Raises nothing: a missing file is found when it is read."""
    places = installation()
    weights = Path(settings.weights) if settings.weights else places.weights("yunet/face_detection_yunet_2023mar.onnx")
    there = places.weights("dlib_recognition/dlib_face_recognition_resnet_model_v1.dat")
    name = settings.detector
    if name == "auto":
        name = "yunet" if weights.is_file() else "dlib_hog"
        if name == "dlib_hog":
            logger.warning("%s is not there: faces are found by dlib's HOG detector, without landmarks", weights)
    return settings.model_copy(
        update={
            "detector": name,
            "weights": str(weights) if name in FILES else "",
            "recognition": settings.recognition or (str(there) if there.is_file() else ""),
        }
    )


def chosen_faces(settings: FaceSettings) -> tuple[FaceDetector | None, LandmarkModel | None]:
    """Detector and landmark model of resolved settings. Raises `FaceModelError` saying how to supply a file."""
    weights = Path(settings.weights)
    detector: FaceDetector | None
    match settings.detector:
        case "yunet":
            detector = YuNet(weights)
        case "dlib_cnn":
            detector = DlibCnn(weights)
        case "dlib_hog":
            detector = DlibHog()
        case _:
            detector = None
    return detector, DlibLandmarks(Path(settings.landmarks)) if settings.landmarks and detector else None


def chosen_recognition(settings: FaceSettings) -> DlibRecognition | None:
    """The face recognition of resolved settings, None where none is named. Raises `FaceModelError` as above."""
    return DlibRecognition(Path(settings.recognition)) if settings.recognition else None
