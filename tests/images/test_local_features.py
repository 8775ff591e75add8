"""The warp between two images is what lays a copy on its original: an error in it is a leak that is not seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.images.local_features import FEATURES, local_features, warp_between
from derm_ml.synthetic.lesions import CLASSES, draw_lesion

GREYS = [cv2.cvtColor(draw_lesion(label, 3, 112, 112).image, cv2.COLOR_RGB2GRAY) for label in CLASSES]


@settings(max_examples=40, deadline=None)
@given(
    which=st.integers(0, 2),
    angle=st.floats(-180, 180),
    scale=st.floats(0.9, 1.25),
    shift=st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
    flip=st.booleans(),
)
def test_how_an_image_was_turned_scaled_moved_and_flipped_is_found(which, angle, scale, shift, flip):
    grey = GREYS[which]
    warp = cv2.getRotationMatrix2D((55.5, 55.5), angle, scale)
    warp[:, 2] += shift
    seen = np.ascontiguousarray(grey[:, ::-1]) if flip else grey
    moved = cv2.warpAffine(seen, warp, (112, 112), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    features = local_features(grey)
    found, patches = warp_between(features.mirrored() if flip else features, local_features(moved))
    assert patches >= 3
    inner = np.array([(x, y, 1.0) for x in (35, 55, 75) for y in (35, 55, 75)]).T
    assert np.abs(found @ inner - warp @ inner).max() < 6  # of 112: from there the alignment finds the rest


def test_patches_lie_where_they_are_on_the_image_and_not_on_the_black_frame():
    grey = GREYS[0].copy()
    grey[:, :40] = 0
    x = local_features(grey).places[:, 0]
    assert len(x) > FEATURES / 2
    assert (x > 40).all()


def test_text_over_an_image_takes_few_of_its_patches():
    plain = local_features(GREYS[1])
    written = GREYS[1].copy()
    cv2.putText(written, "PAT 20417 M 63", (2, 108), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    assert warp_between(plain, local_features(written))[1] > FEATURES / 3


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_blank_image_has_no_patches_and_resembles_nothing(value):
    blank = local_features(np.full((40, 60), value, np.uint8))
    assert not len(blank.places)
    for a, b in ((blank, blank), (blank, local_features(GREYS[2])), (local_features(GREYS[2]), blank)):
        assert warp_between(a, b)[1] == 0
    assert not len(blank.mirrored().places)
