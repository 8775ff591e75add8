"""Whether two photos show one person: a photo filed under the wrong patient must be noticed, another light must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from derm_ml.pairs.faces.choice import FaceSettings, resolved
from derm_ml.pairs.faces.dlib_faces import DlibRecognition
from derm_ml.pairs.faces.face import Face, FaceModelError, mirrored
from derm_ml.pairs.faces.identity import FEWEST, FaceIdentity, fit_identity, signature
from derm_ml.synthetic.faces import draw_face

CELLS = 40


LANDMARKS = {  # where `draw_face` draws them, on average
    "right_eye": (83.0, 106.0), "left_eye": (141.0, 106.0), "nose": (112.0, 153.0),
    "right_mouth": (90.0, 186.0), "left_mouth": (134.0, 186.0),
}  # fmt: skip
FACE = Face((45.0, 40.0, 180.0, 230.0), 1.0, LANDMARKS)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def photos(people: int, each: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Signatures in which light, the same few directions for everybody, changes more than who it is."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    patterns = fixed.normal(size=(16, 128))  # what descriptors are made of
    light = fixed.normal(size=(4, CELLS, 16))
    who = rng.normal(size=(people, 1, CELLS, 16))
    shown = (who + 2 * np.einsum("pek,kcd->pecd", rng.normal(size=(people, each, 4)), light)) @ patterns
    return shown.reshape(people * each, CELLS * 128), [f"person {k}" for k in range(people) for _ in range(each)]


def test_unseen_people_are_told_apart_in_any_light():
    identity = fit_identity(*photos(16, 8, seed=1))
    assert identity is not None
    unseen, names = photos(6, 4, seed=2)
    codes = np.array([identity.code(vector) for vector in unseen])
    alike, same = codes @ codes.T, np.equal.outer(names, names)
    np.fill_diagonal(same, False)
    others = ~np.equal.outer(names, names)

    def told_apart(scores: np.ndarray) -> float:
        return float((scores[same][:, None] > scores[others]).mean())

    assert told_apart(alike) > 0.95
    assert told_apart(np.corrcoef(unseen)) < 0.8, "the case is easy: plain correlation tells them apart as well"


def test_too_few_people_teach_no_identity():
    assert fit_identity(*photos(FEWEST - 1, 5, seed=3)) is None
    assert fit_identity(*photos(20, 1, seed=3)) is None, "one photo of each says nothing of how one person's differ"


def test_an_identity_comes_back_from_its_tensors():
    identity = fit_identity(*photos(8, 4, seed=4))
    assert identity is not None
    again = FaceIdentity.of(identity.tensors())
    assert again is not None
    (a, b), _ = photos(1, 2, seed=5)
    assert again.alike(a, b) == identity.alike(a, b)


def test_a_mirrored_face_is_turned_back():
    photo = draw_face(3)
    straight, twin = signature(photo, FACE), signature(photo, FACE, is_mirrored=True)
    flipped = mirrored(FACE, photo.shape[1])
    back = signature(np.ascontiguousarray(photo[:, ::-1]), flipped, is_mirrored=True)
    assert straight is not None
    assert twin is not None
    assert back is not None
    assert cosine(straight, back) > 0.99 > cosine(straight, twin)


@pytest.fixture(scope="module")
def recognition() -> DlibRecognition:
    settings = resolved(FaceSettings())
    if not settings.recognition:
        pytest.skip("dlib's face recognition is not here: derm fetch dlib_recognition")
    return DlibRecognition(Path(settings.recognition))


def test_dlib_knows_a_face_in_another_light_and_in_the_mirror(recognition):
    photo = draw_face(3)
    darker = (photo * 0.6).astype(np.uint8)
    flipped = np.ascontiguousarray(photo[:, ::-1])
    face = recognition.signature(photo, FACE)
    dim = recognition.signature(darker, FACE)
    back = recognition.signature(flipped, mirrored(FACE, photo.shape[1]), is_mirrored=True)
    assert recognition.alike(face, back) > 0.95
    assert recognition.alike(face, dim) > 0.4, "one person is closer than 0.6"
    assert recognition.signature(photo, replace(FACE, landmarks={})) is None


def test_a_missing_recognition_file_is_named(tmp_path):
    with pytest.raises(FaceModelError, match=r"nowhere\.dat: there is no such file; .*derm fetch dlib_recognition"):
        DlibRecognition(tmp_path / "nowhere.dat")


def test_without_eyes_there_is_no_signature():
    assert signature(draw_face(3), replace(FACE, landmarks={})) is None
