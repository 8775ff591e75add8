"""If picture and mask were moved apart, a network would learn the outline beside the lesion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.images.augment import augmentation, paired_augmentation
from derm_ml.images.preprocess import to_square
from derm_ml.synthetic.lesions import draw_lesion

SIDE = 48


def as_picture(mask):
    return np.repeat(mask[..., None], 3, axis=2)


def a_mask(seed):
    return draw_lesion("melanoma", seed, side=60, width=80).mask


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 50),
    st.sampled_from(["none", "flips"]),
    st.sampled_from(["squash", "crop", "pad"]),
)
def test_the_mask_of_a_moved_picture_is_the_moved_mask(seed, which, name, fit):
    """The mask itself as the picture: both must come out alike, pixel by pixel."""
    mask = a_mask(which)
    picture, moved = paired_augmentation(name, SIDE, fit)(as_picture(mask), mask, seed)
    assert picture.shape == (SIDE, SIDE, 3)
    assert moved.shape == (SIDE, SIDE)
    assert set(np.unique(moved)) <= {0, 255}
    np.testing.assert_array_equal(picture[..., 0] >= 128, moved == 255)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 50))
def test_strong_augmentation_too_moves_both_alike(seed, which):
    """Colours are changed in the picture alone: with the lesion drawn white on black and black on white, a pixel is
    lesion where the first is the brighter of the two. Where something occludes both they are equal."""
    mask = a_mask(which)
    augment = paired_augmentation("strong", SIDE)
    light, moved = augment(as_picture(mask), mask, seed)
    dark, again = augment(as_picture(255 - mask), mask, seed)
    np.testing.assert_array_equal(moved, again)
    brighter = light.mean(axis=2) - dark.mean(axis=2)
    told_apart = np.abs(brighter) > 6  # less is rounding
    np.testing.assert_array_equal(moved[told_apart] == 255, brighter[told_apart] > 0)
    assert told_apart.mean() > 0.5, "hardly a pixel was compared"


@pytest.mark.parametrize("name", ["none", "flips", "moderate", "robust", "strong"])
def test_with_a_mask_the_picture_is_what_it_is_without(name):
    drawn = draw_lesion("nevus", 1, side=60, width=80)
    alone = augmentation(name, SIDE)(drawn.image, 7)
    np.testing.assert_array_equal(paired_augmentation(name, SIDE)(drawn.image, drawn.mask, 7)[0], alone)


def test_the_seed_alone_decides():
    drawn = draw_lesion("nevus", 1, side=60)
    augment = paired_augmentation("strong", SIDE)
    first, other = augment(drawn.image, drawn.mask, 3), augment(drawn.image, drawn.mask, 4)
    again = augment(drawn.image, drawn.mask, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_without_augmentation_the_mask_is_the_square_of_the_mask():
    mask = a_mask(3)
    _, moved = paired_augmentation("none", SIDE, "pad")(as_picture(mask), mask, 0)
    np.testing.assert_array_equal(moved == 255, to_square(mask, SIDE, "pad") >= 128)


def test_robust_augmentation_blurs_some_of_the_pictures_that_moderate_leaves_sharp():
    """A network that has seen sharp pictures only loses most of its AUC where one is out of focus."""
    drawn = draw_lesion("nevus", 1, side=200)

    def sharpness(name, seed):
        picture = augmentation(name, 96)(drawn.image, seed)
        return float(np.abs(np.diff(picture.astype(float), axis=0)).mean())

    moderate, robust = (np.array([sharpness(name, seed) for seed in range(40)]) for name in ("moderate", "robust"))
    assert np.isclose(moderate, robust).mean() == pytest.approx(0.5, abs=0.25), "half of the pictures stay as they are"
    assert (robust < 0.8 * moderate).sum() >= 4
