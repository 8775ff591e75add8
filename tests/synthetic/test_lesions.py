"""Drawn lesions are the truth every offline test stands on."""

from __future__ import annotations

import numpy as np
import pytest

from derm_ml.synthetic.lesions import CLASSES, draw_lesion


@pytest.mark.parametrize("label", CLASSES)
def test_the_same_seed_draws_the_same_picture_and_another_seed_another(label):
    a, b, c = draw_lesion(label, 3), draw_lesion(label, 3), draw_lesion(label, 4)
    assert np.array_equal(a.image, b.image)
    assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize("label", CLASSES)
def test_the_mask_is_the_lesion(label):
    for seed in range(40):
        drawn = draw_lesion(label, seed, side=96, width=128)
        assert drawn.image.shape == (96, 128, 3)
        assert set(np.unique(drawn.mask)) == {0, 255}
        inside, outside = drawn.image[drawn.mask > 0].mean(), drawn.image[drawn.mask == 0].mean()
        assert inside < outside, "a lesion is darker than the skin around it"


def test_size_and_place_do_not_give_the_class_away():
    """A network that reads area or position only must not be able to score."""
    areas = {label: [(draw_lesion(label, s).mask > 0).mean() for s in range(40)] for label in CLASSES}
    means = [np.mean(v) for v in areas.values()]
    assert max(means) - min(means) < np.std(areas["nevus"])
