"""Drawn eyes are the truth retinal_findings stands on offline."""

from __future__ import annotations

import numpy as np
import pytest

from derm_ml.images.duplicates import find_duplicates
from derm_ml.images.fingerprints import fingerprint
from derm_ml.synthetic.fundus import FINDINGS, draw_fundus


def test_the_same_seed_draws_the_same_eye_and_another_seed_another():
    a, b, c = (draw_fundus(["glaucoma"], seed) for seed in (3, 3, 4))
    assert np.array_equal(a.image, b.image)
    assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize("finding", ["", *FINDINGS])
def test_what_is_said_is_what_was_drawn(finding):
    for seed in range(6):
        drawn = draw_fundus([finding] if finding else [], seed, side=160, width=180)
        assert drawn.image.shape == (160, 180, 3)
        assert drawn.image[~drawn.field_of_view].mean() < 5, "the frame is black"
        assert drawn.lesions.any() == (finding == "diabetic_retinopathy")
        assert drawn.drusen.any() == (finding == "macular_degeneration")
        assert (drawn.cup_to_disc > 0.6) == (finding == "glaucoma")
        x, y, radius = drawn.disc
        assert drawn.field_of_view[round(y), round(x)]
        assert 0.08 * 160 < radius < 0.12 * 160


def test_the_eye_says_on_which_side_the_disc_lies():
    for seed in range(5):
        assert draw_fundus([], seed, eye="left").disc[0] < 80 < draw_fundus([], seed, eye="right").disc[0]


def test_two_eyes_in_the_same_round_frame_are_no_duplicates():
    """The black frame is the same in all pictures of a camera; taken for content, it would join strangers."""
    eyes = [draw_fundus(findings, seed).image for findings in ([], FINDINGS[:1]) for seed in range(8)]
    assert find_duplicates({str(number): fingerprint(eye) for number, eye in enumerate(eyes)}) == []


def test_an_unknown_finding_is_named():
    with pytest.raises(ValueError, match="wart"):
        draw_fundus(["wart"], 0)
