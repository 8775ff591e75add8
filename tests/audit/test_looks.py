"""The single numbers of an image mean what the report says they mean."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from derm_ml.audit.looks import look_at
from derm_ml.synthetic.lesions import draw_lesion
from derm_ml.synthetic.off_topic import empty


@pytest.fixture(scope="module")
def lesion() -> np.ndarray:
    return draw_lesion("nevus", 3, side=144, width=192).image


def test_a_black_frame_is_measured_as_its_share(lesion):
    framed = cv2.copyMakeBorder(lesion, 36, 36, 48, 48, cv2.BORDER_CONSTANT)  # half again on each side
    assert look_at(lesion).border == pytest.approx(0, abs=0.02)
    assert look_at(framed).border == pytest.approx(1 - 1 / 1.5**2, abs=0.03)
    assert look_at(framed).corner_brightness < 1 < look_at(lesion).corner_brightness


def test_blur_lowers_sharpness_and_a_darker_exposure_brightness(lesion):
    soft, dark = cv2.GaussianBlur(lesion, (0, 0), 4), lesion // 3
    assert look_at(soft).sharpness < look_at(lesion).sharpness
    assert look_at(dark).brightness < look_at(lesion).brightness
    assert look_at(dark).brightest < look_at(lesion).brightest


def test_a_warmer_light_is_redder_and_yellower_in_the_corners_too(lesion):
    warm = (lesion * np.array([1.0, 0.85, 0.6])).astype(np.uint8)
    for name in ("redness", "yellowness", "corner_redness", "corner_yellowness"):
        assert getattr(look_at(warm), name) > getattr(look_at(lesion), name), name


@pytest.mark.parametrize("k", range(5))
def test_a_blank_image_is_plainer_than_the_palest_lesion(lesion, k):
    faint = (0.15 * lesion + 0.85 * np.array([220, 180, 160])).astype(np.uint8)
    assert look_at(empty(k, 144, 192)).plainness < look_at(faint).plainness < look_at(lesion).plainness


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (700, 3), (2000, 1500)])
def test_an_image_of_any_shape_has_a_look_of_finite_numbers(shape):
    for fill in (0, 255):
        look = look_at(np.full((*shape, 3), fill, np.uint8))
        assert np.isfinite(look.vector).all()
        assert len(look.vector) == len(look_at(np.zeros((64, 64, 3), np.uint8)).vector)
