"""Two photos of anything register on each other: a retina sent twice was `the same skin`, probability 0.997."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from derm_ml.pairs.skin import no_skin
from derm_ml.synthetic.faces import draw_face
from derm_ml.synthetic.fundus import draw_fundus
from derm_ml.synthetic.lesions import draw_lesion


def without_skin() -> dict[str, np.ndarray]:
    return {
        "an eye's background": draw_fundus({}, seed=1).image,
        "noise": np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8),
        "is too dark": np.zeros((300, 300, 3), np.uint8),
        "is blank": np.full((300, 300, 3), (200, 160, 140), np.uint8),
        "a colour of skin": np.tile(np.linspace((20, 80, 160), (60, 160, 240), 300).astype(np.uint8), (300, 1, 1)),
    }


@pytest.mark.parametrize("name", without_skin())
def test_what_is_no_skin_is_named(name):
    assert name in no_skin(without_skin()[name])


@pytest.mark.parametrize("lightness", [1.0, 0.6, 0.35])
def test_skin_of_any_lightness_is_skin(lightness):
    """A rule on colour that holds for light skin alone would turn people away."""
    lesion = draw_lesion("nevus", seed=3, side=200, width=200).image
    for photo in (cv2.resize(draw_face(2), (400, 400)), lesion):
        assert no_skin((photo * lightness).astype(np.uint8)) == ""
