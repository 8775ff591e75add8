"""What happens to a picture before it is a square must find the eye, and lead a heatmap back into the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.images.condition import conditioned, field_of_view, in_picture, square, squared_view, view
from derm_ml.images.settings import Preprocessing
from derm_ml.synthetic.fundus import draw_fundus


@settings(deadline=None, max_examples=40)  # drawing takes longer than hypothesis allows an example
@given(st.integers(0, 200), st.integers(0, 60), st.sampled_from([0, 255]))
def test_the_field_of_view_is_the_drawn_one(seed, margin, page):
    """Seen on real photographs: black frames of any width, and one on a white page."""
    drawn = draw_fundus(["opacity"] if seed % 2 else [], seed, side=120, width=150)
    rows, columns = np.flatnonzero(drawn.field_of_view.any(1)), np.flatnonzero(drawn.field_of_view.any(0))
    image = np.pad(drawn.image, ((margin, margin), (margin, margin), (0, 0)), constant_values=page)
    box = field_of_view(image)
    expected = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]) + margin
    assert np.abs(np.array(box) - expected).max() <= 6


@pytest.mark.parametrize("cut", [0, 12])
@pytest.mark.parametrize("page", [0, 255])
def test_the_round_view_is_the_drawn_one_also_where_it_is_cut_off(page, cut):
    drawn = draw_fundus([], 5, side=120, width=150)
    rows = slice(cut, 120 - cut)
    image, truth = drawn.image[rows], drawn.field_of_view[rows]
    if page:
        image = np.where(truth[..., None], image, np.uint8(page))
    assert (view(image) == truth).mean() > 0.97  # the edge is dark


def test_the_round_view_lies_in_the_square_where_the_network_sees_it():
    drawn = draw_fundus([], 6, side=120, width=200)
    rule = Preprocessing(side=64, store_side=0, field_of_view=True, contrast="ben_graham")
    inside = squared_view(drawn.image, rule)
    assert np.mean(inside) == pytest.approx(np.pi / 4, abs=0.03), "the black frame was cropped, the corners stay"
    assert inside[32, 32]
    assert not inside[0, 0]
    whole = squared_view(drawn.image, Preprocessing(side=64, store_side=0))
    assert np.mean(whole) == pytest.approx(np.mean(drawn.field_of_view), abs=0.03)


def test_a_view_is_the_whole_image_where_there_is_no_frame_or_nothing_else():
    assert view(np.full((40, 60, 3), 120, np.uint8)).all()
    assert view(np.zeros((40, 60, 3), np.uint8)).all()


@pytest.mark.parametrize("value", [0, 120, 255])
def test_a_picture_without_a_frame_stays_whole(value):
    image = np.full((40, 60, 3), value, np.uint8)
    assert tuple(field_of_view(image)) == (0, 40, 0, 60)


def test_green_is_the_green_channel_thrice():
    image = draw_fundus([], 1).image
    green = conditioned(image, Preprocessing(side=64, store_side=0, channel="green"))
    assert all(np.array_equal(green[..., k], image[..., 1]) for k in range(3))


def test_ben_graham_makes_a_dark_and_a_bright_photograph_alike():
    drawn = draw_fundus(["diabetic_retinopathy"], 5)
    dark, inside = (drawn.image * 0.5).astype(np.uint8), drawn.field_of_view
    rule = Preprocessing(side=64, store_side=0, contrast="ben_graham")
    before = np.abs(drawn.image[inside].astype(float) - dark[inside]).mean()
    after = np.abs(conditioned(drawn.image, rule)[inside].astype(float) - conditioned(dark, rule)[inside]).mean()
    assert after < 0.75 * before


def test_clahe_lifts_vessels_out_of_a_flat_photograph():
    drawn = draw_fundus([], 5)
    flat = (drawn.image * 0.25 + 60).astype(np.uint8)
    rule = Preprocessing(side=64, store_side=0, contrast="clahe")
    ground = drawn.field_of_view & ~drawn.vessels

    def contrast(image: np.ndarray) -> float:
        return float(image[ground].mean() - image[drawn.vessels].mean())

    assert contrast(conditioned(flat, rule)) > 1.5 * contrast(flat)


@settings(deadline=None, max_examples=40)  # drawing takes longer than hypothesis allows an example
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["squash", "pad", "crop"]))
def test_the_hottest_cell_lies_in_the_picture_where_the_network_saw_it(above, before, fit):
    """A heatmap that is laid over the wrong place explains the wrong thing."""
    image = np.zeros((100 + above, 100 + before, 3), np.uint8)
    image[above:, before:] = 90
    image[above + 20 : above + 30, before + 70 : before + 80] = 200  # the bright patch is what was seen
    rule = Preprocessing(side=50, store_side=0, field_of_view=True, fit=fit)
    seen = square(image, rule)[..., 0].astype(np.float32)
    cam = seen.reshape(10, 5, 10, 5).mean(axis=(1, 3))
    heat = in_picture(cam, image, rule)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(y - above - 24.5) <= 5
    assert abs(x - before - 74.5) <= 5
