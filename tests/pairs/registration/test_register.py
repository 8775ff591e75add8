"""Two photos of one face must lie on each other however the second was held, and two faces must not."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest
import torch

from derm_ml.nets.bi_autoencoder import BiAutoencoder
from derm_ml.pairs.faces.dlib_faces import DlibHog
from derm_ml.pairs.registration.learned import TransformNetwork
from derm_ml.pairs.registration.register import NoRegistration, Registrar
from derm_ml.synthetic.faces import draw_face
from derm_ml.synthetic.visit_change import VisitChange
from derm_ml.synthetic.visits import second_visit
from derm_ml.training.export import export_registration

pytestmark = pytest.mark.slow

PHOTO = draw_face(2)


def error(registration, truth) -> float:
    """Median distance to the true place, in distances between the eyes."""
    ends = registration.forward(truth.points[:, :2])
    return float(np.median(np.hypot(*(ends - truth.points[:, 2:]).T)) / registration.unit)


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_a_warped_and_relit_photo_is_registered(mirrored):
    pair, truth = second_visit(PHOTO, (), 3, VisitChange(mirrored=mirrored))
    registration = Registrar()(pair.first, pair.second)
    assert registration.is_mirrored is bool(mirrored)
    assert error(registration, truth) < 0.03
    there = registration.forward(truth.points[:, :2])
    assert np.abs(registration.backward(there) - truth.points[:, :2]).max() < 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_photo_held_sideways_is_registered(turns):
    registration = Registrar()(PHOTO, np.ascontiguousarray(np.rot90(PHOTO, turns)))
    x, y = 80, 120
    height, width = PHOTO.shape[:2]
    wanted = ((x, y), (y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x))[turns]
    assert np.abs(registration.forward(np.array([[x, y]]))[0] - wanted).max() < 2


def test_faces_keep_the_wall_out():
    """The same office wall behind two people must not pass for the same person."""
    wall = np.random.default_rng(0).integers(0, 255, (256, 420, 3), np.uint8)
    photos = []
    for seed in (4, 5):
        photo = wall.copy()
        photo[:, 100:324] = draw_face(seed)
        photos.append(photo)
    assert Registrar()(*photos).evidence["agreeing"] > 100  # the wall alone
    assert Registrar(DlibHog())(*photos).evidence["agreeing"] < 60


def test_a_face_found_in_one_photo_alone_keeps_the_wall_out_too():
    wall = np.random.default_rng(0).integers(0, 255, (256, 420, 3), np.uint8)
    photo, turned = wall.copy(), wall.copy()
    photo[:, 100:324] = draw_face(4)
    turned[:, 100:324] = draw_face(5)[::-1, :, ::-1] // 8  # a head nobody finds
    for pair in ((photo, turned), (turned, photo)):
        with contextlib.suppress(NoRegistration):
            assert Registrar(DlibHog())(*pair).evidence["agreeing"] < 60


def test_a_face_the_second_photo_alone_shows_is_measured_in_the_first():
    """A detector misses a face now and then: the unit stays the distance of the eyes, not a share of the picture."""

    class Once(DlibHog):
        asked = 0

        def __call__(self, image):
            self.asked += 1
            return super().__call__(image) if self.asked > 4 else []  # the first photo, in four orientations

    wide = cv2.copyMakeBorder(PHOTO, 0, 0, 150, 150, cv2.BORDER_CONSTANT, value=(90, 110, 130))
    both, one = (Registrar(detector)(wide, wide.copy()) for detector in (DlibHog(), Once()))
    assert one.faces[0] is None
    assert one.faces[1]
    assert one.unit == pytest.approx(both.unit, rel=0.02)
    mirrored = Registrar(Once())(wide, np.ascontiguousarray(wide[:, ::-1]))
    assert mirrored.is_mirrored
    assert mirrored.unit == pytest.approx(both.unit, rel=0.1)


def test_nothing_in_common_is_said():
    flat = np.full((120, 120, 3), 128, np.uint8)
    with pytest.raises(NoRegistration, match="too few features"):
        Registrar()(flat, flat)


def test_a_network_that_bends_carries_points_as_it_says_and_back(tmp_path):
    """Version 2 by itself: its affine map and its bend are the whole way from the first photo to the second."""
    torch.manual_seed(0)
    network = BiAutoencoder(88, dropout=0.0, shared=True, looks=1, bends=True)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("trust"):
                value.fill_(0.1)
    export_registration(network, tmp_path)
    learned = TransformNetwork.open(tmp_path / "model.onnx", 88)
    pair, _ = second_visit(PHOTO, (), 5, VisitChange(mirrored=0, rotation=5))
    registration = Registrar(None, None, learned, only_learned=True)(pair.first, pair.second)
    assert registration.method == "learned"
    assert np.abs(registration.flow).max() > 1

    lattice = learned(pair.first, pair.second).lattice
    height, width = pair.first.shape[:2]
    knots = np.array([[i, j] for i in (10, 14, 20) for j in (9, 16, 22)])  # of 32, and where they lie in the photo
    places = knots / 32 * [width, height] - 0.5
    there = registration.forward(places)
    assert np.abs(there - lattice[knots[:, 1], knots[:, 0]]).max() < 1
    assert np.abs(registration.backward(there) - places).max() < 1
