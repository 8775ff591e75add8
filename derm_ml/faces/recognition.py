"""dlib's face recognition network: who is who, learned from three million photos. The user supplies its file.

    recognition = DlibRecognition(Path("dlib_face_recognition_resnet_model_v1.dat"))
    recognition.alike(recognition.signature(photo_a, face_a), recognition.signature(photo_b, face_b))

Where it is there it takes the place of the likeness learned from the training photos (faces/identity.py).
Source: King, High quality face recognition with deep metric learning, blog.dlib.net 2017 (ResNet-29, 99.4 % on LFW).
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from derm_ml.faces.dlib_faces import loaded
from derm_ml.faces.face import EYES, Face
from derm_ml.faces.upright import upright
from derm_ml.registration.geometry import similarity

SIDE = 150  # pixels of the face the network was trained on
PLACES = np.array([(48.2, 47.1), (100.8, 47.1)])  # where the middles of the eyes lie in it, as far from its middle


class DlibRecognition:
    """128 numbers a face, closer than 0.6 for one person. Thread-safe. Raises `FaceModelError` for an unusable file."""

    def __init__(self, weights: Path) -> None:
        import dlib

        self._network = loaded(
            weights,
            dlib.face_recognition_model_v1,
            "dlib_face_recognition_resnet_model_v1.dat (`derm fetch dlib_recognition`)",
        )
        self._lock = threading.Lock()

    def signature(self, photo: np.ndarray, face: Face, is_mirrored: bool = False) -> np.ndarray | None:
        """(128,) float32 of a face in an RGB photo, or None where the eyes are not known."""
        if not all(name in face.landmarks for name in EYES):
            return None
        matrix = similarity(np.array([face.landmarks[name] for name in EYES]), PLACES)
        chip = upright(photo, matrix, SIDE, is_mirrored)
        with self._lock:
            return np.array(self._network.compute_face_descriptor(chip), np.float32)

    def alike(self, a: np.ndarray, b: np.ndarray) -> float:
        """1 for the same face, above 0.4 for one person, down to -1."""
        return 1 - float(np.linalg.norm(a - b))
