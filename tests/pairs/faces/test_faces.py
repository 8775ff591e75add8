"""Faces however the photo was held; dlib's HOG detector on a real photo every machine with matplotlib has."""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from derm_ml.pairs.faces.choice import FaceSettings, chosen_faces, resolved
from derm_ml.pairs.faces.dlib_faces import DlibCnn, DlibHog, DlibLandmarks, landmarks_by_name
from derm_ml.pairs.faces.face import Face, FaceModelError, find_face, mirrored
from derm_ml.pairs.faces.yunet import YuNet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hopper() -> np.ndarray:
    """Rear Admiral Grace Hopper, a public-domain photo that matplotlib ships."""
    with Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg") as photo:
        return np.asarray(photo.convert("RGB"))


@pytest.mark.parametrize("turns", range(4))
def test_hog_finds_a_face_in_every_orientation(hopper, turns):
    face = find_face(hopper, DlibHog())
    turned = find_face(np.ascontiguousarray(np.rot90(hopper, turns)), DlibHog())
    assert face
    assert turned
    assert turned.quarter_turns == -turns % 4
    x1, y1, x2, y2 = face.box
    height, width = hopper.shape[:2]
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    x, y = middle
    wanted = ((x, y), (y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x))[turns]
    a, b, c, d = turned.box
    assert np.abs(np.array([(a + c) / 2, (b + d) / 2]) - wanted).max() < 8
    # the corners keep their names: the face's own right top stays that
    name = np.array(face.anchors["right_top"]) - middle
    turned_name = np.array(turned.anchors["right_top"]) - wanted
    back = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[turns]
    assert np.abs(np.array(back).reshape(2, 2) @ name - turned_name).max() < 10


def test_no_face_is_none():
    assert find_face(np.full((200, 200, 3), 128, np.uint8), DlibHog()) is None


def test_of_several_faces_the_largest_is_taken_and_said(caplog):
    class Two:
        name = "two"

        def __call__(self, image):
            return [Face((0, 0, 10, 10), 0.9), Face((20, 20, 60, 60), 0.8)]

    with caplog.at_level(logging.WARNING):
        face = find_face(np.zeros((100, 100, 3), np.uint8), Two())
    assert face
    assert face.box == (20, 20, 60, 60)
    assert "2 faces" in caplog.text


def test_mirroring_swaps_the_patient_s_sides():
    face = Face((10, 0, 30, 20), 1.0, {"right_eye": (12.0, 5.0), "left_eye": (28.0, 5.0), "nose": (20.0, 9.0)})
    back = mirrored(face, 100)
    assert back.landmarks["left_eye"] == (87.0, 5.0)
    assert back.box == (69, 0, 89, 20)
    assert mirrored(back, 100) == face


def test_dlib_s_points_by_name():
    assert set(landmarks_by_name(np.zeros((68, 2)))) >= {
        "right_eye_corner",
        "left_eye_corner",
        "nose_base",
        "right_mouth",
    }
    assert landmarks_by_name(np.arange(10.0).reshape(5, 2))["left_eye"] == (1.0, 2.0)
    with pytest.raises(ValueError, match="5 or 68"):
        landmarks_by_name(np.zeros((7, 2)))


@pytest.mark.parametrize("kind", [YuNet, DlibCnn, DlibLandmarks])
def test_a_missing_model_file_says_how_to_supply_it(kind, tmp_path):
    with pytest.raises(FaceModelError, match=r"nowhere.bin: .*(fetch|supply)"):
        kind(tmp_path / "nowhere.bin")


def test_auto_falls_back_to_hog_and_says_so(caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("DERM_DATA", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        settings = resolved(FaceSettings())
    assert settings.detector == "dlib_hog"
    assert "yunet" in caplog.text
    assert isinstance(chosen_faces(settings)[0], DlibHog)


def test_yunet_finds_eyes_in_every_orientation(shared_data, hopper):
    detector = YuNet(shared_data / "weights" / "face_detection_yunet_2026may.onnx")
    for turns in range(4):
        face = find_face(np.ascontiguousarray(np.rot90(hopper, turns)), detector)
        assert face
        assert face.quarter_turns == -turns % 4
        assert face.inter_ocular == pytest.approx(find_face(hopper, detector).inter_ocular, rel=0.1)


def test_the_dlib_cnn_finds_a_face(shared_data, hopper):
    face = find_face(
        hopper[:300, 100:400][::2, ::2].copy(), DlibCnn(shared_data / "weights/mmod_human_face_detector.dat", 1)
    )
    assert face
    assert face.score > 0.5
