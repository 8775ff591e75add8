"""Boxes and masks drawn on stored pixels lie where the upright image shows them, or are refused; never elsewhere."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from derm_ml.images.decode import INGEST_FORMATS, canonical_mask, decode
from derm_ml.images.orientation import Frame, WrongFrame, frame_of, turn_of_mask, upright_regions
from derm_ml.records import Region

WIDE, HIGH = 60, 40


def encoded(pixels: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def region(box: tuple[float, float, float, float], frame: tuple[int, int] | None) -> Region:
    return Region("pimple", *box, frame=frame)


@given(
    st.integers(1, 8),
    st.tuples(st.integers(0, 40), st.integers(0, 25), st.integers(2, 15), st.integers(2, 12)),
)
def test_a_box_on_stored_pixels_is_where_the_pixels_are_once_upright(orientation, drawn):
    x, y, wide, high = drawn
    stored = np.zeros((HIGH, WIDE, 3), np.uint8)
    stored[y : y + high, x : x + wide] = 255
    data = encoded(stored, orientation)
    frame = frame_of(data)
    assert frame == Frame(WIDE, HIGH, orientation)
    upright = decode(data, INGEST_FORMATS)
    assert (upright.shape[1], upright.shape[0]) == frame.upright
    x1, y1, x2, y2 = map(int, frame.box((x, y, x + wide, y + high)))
    rows, columns = np.nonzero(upright[..., 0])
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)


def test_a_box_goes_with_the_frame_its_file_declares():
    turned = Frame(WIDE, HIGH, 6)  # upright 40 × 60
    on_stored, on_upright = region((1, 2, 11, 7), (WIDE, HIGH)), region((1, 2, 11, 7), (HIGH, WIDE))
    assert upright_regions([on_stored], turned)[0].box == (33, 1, 38, 11)
    assert upright_regions([on_upright], turned)[0].box == (1, 2, 11, 7)
    assert upright_regions([region((1, 2, 3, 4), None)], Frame(WIDE, HIGH))[0].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("declared", "frame", "reason"),
    [
        (None, Frame(WIDE, HIGH, 6), "nothing says"),
        ((WIDE, HIGH), Frame(WIDE, HIGH, 3), "nothing says"),
        ((50, 50), Frame(50, 50, 6), "nothing says"),
        (
            (HIGH, WIDE),
            Frame(WIDE, HIGH),
            r"drawn on an image of 40 × 60 .* has 60 × 40 \(width and height are swapped",
        ),
        ((120, 80), Frame(WIDE, HIGH), "drawn on an image of 120 × 80"),
    ],
)
def test_a_box_whose_frame_is_not_known_is_refused(declared, frame, reason):
    with pytest.raises(WrongFrame, match=reason):
        upright_regions([region((1, 2, 3, 4), declared)], frame)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_stored_frame_is_turned_with_its_image(orientation):
    mask = np.zeros((HIGH, WIDE), np.uint8)
    mask[:10, :5] = 255
    image = encoded(np.repeat(mask[..., None], 3, axis=2), orientation)
    data = io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    turn = turn_of_mask(frame_of(data.getvalue()), frame_of(image))
    _, stored = canonical_mask(data.getvalue(), turn)
    assert np.array_equal(stored, decode(image, INGEST_FORMATS)[..., 0])


def test_a_mask_that_may_lie_either_way_is_refused_and_one_that_is_upright_or_says_its_turn_is_not():
    assert turn_of_mask(Frame(HIGH, WIDE), Frame(WIDE, HIGH, 6)) == 1
    assert turn_of_mask(Frame(WIDE, HIGH, 3), Frame(WIDE, HIGH, 3)) == 1
    for mask, image in ((Frame(WIDE, HIGH), Frame(WIDE, HIGH, 3)), (Frame(50, 50), Frame(50, 50, 6))):
        with pytest.raises(WrongFrame, match=r"EXIF orientation [36]\), and nothing says whether its mask"):
            turn_of_mask(mask, image)
    with pytest.raises(WrongFrame, match="the mask is 40 × 60 pixels, its image 60 × 40: no pair"):
        turn_of_mask(Frame(HIGH, WIDE), Frame(WIDE, HIGH))
