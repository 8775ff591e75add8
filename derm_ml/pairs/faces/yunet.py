"""YuNet: OpenCV's face detector with five landmarks. Its weights are not part of this project.

Source: Wu, Peng, Yu, YuNet: a tiny millisecond-level face detector, Machine Intelligence Research 20 (2023).

YuNet(Path("face_detection_yunet_2023mar.onnx"))(image)
"""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from derm_ml.pairs.faces.face import Face, FaceModelError

NAMES = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
SURE = 0.6  # below it are ears and elbows; the models' authors take 0.9 for crowds


class YuNet:
    """Thread-safe: OpenCV's detector keeps the size of its last picture, so one thread asks at a time."""

    name = "yunet"

    def __init__(self, weights: Path, sure: float = SURE) -> None:
        if not weights.is_file():
            raise FaceModelError(
                f"{weights}: the YuNet face detector is not there; fetch it with `derm fetch yunet`, or set "
                "face_weights to the path of face_detection_yunet_….onnx from the OpenCV model zoo"
            )
        try:
            self._net = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), sure, 0.3, 100)
        except cv2.error as error:
            raise FaceModelError(f"{weights}: not a YuNet model OpenCV can read; fetch it again") from error
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> list[Face]:
        with self._lock:
            self._net.setInputSize((image.shape[1], image.shape[0]))
            rows = self._net.detect(np.ascontiguousarray(image[..., ::-1]))[1]
        faces = []
        for row in [] if rows is None else rows.astype(float):
            x, y, width, height = row[:4]
            points = row[4:14].reshape(5, 2)
            landmarks = {name: (float(px), float(py)) for name, (px, py) in zip(NAMES, points, strict=True)}
            faces.append(Face((x, y, x + width, y + height), float(row[14]), landmarks))
        return faces
