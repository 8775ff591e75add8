"""Pictures of an explanation: the image itself stays to be seen, and what is written below it can be read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from derm_ml.explain.panels import COLUMN, GAP, LARGEST, ORIGINAL, SMALLEST, Panel, beside, captioned

CAPTION = "melanoma: 83.0% (model 0123456789ab)\nResearch use only. Not a medical device and not a diagnosis."


def panels(height: int, width: int) -> list[Panel]:
    image, drawn = (np.full((height, width, 3), value, np.uint8) for value in (90, 160))
    return [Panel(image, ORIGINAL), Panel(drawn, "Influence on melanoma", heat=True)]


@pytest.mark.parametrize("shape", [(40, 30), (512, 512), (768, 1024), (1, 1024), (1024, 1)])
def test_image_and_heatmap_stand_side_by_side_unchanged(shape):
    height, width = shape
    picture = beside(panels(height, width), CAPTION)
    column = max(COLUMN, width)
    assert picture.shape[1] == 2 * column + GAP
    assert (picture[:height, :width] == 90).all()
    assert (picture[:height, column + GAP :][:, :width] == 160).all()
    assert (picture[:, column : column + GAP][:height] == 255).all()


def test_the_bar_has_the_colours_of_the_heatmap_and_only_below_it():
    picture = beside(panels(64, 64), CAPTION)[64:].astype(int)
    violet, yellow = (
        cv2.applyColorMap(np.array([[value]], np.uint8), cv2.COLORMAP_VIRIDIS)[0, 0, ::-1].astype(int)
        for value in (0, 255)
    )
    left, right = (np.flatnonzero((picture == colour).all(axis=2).any(axis=0)) for colour in (violet, yellow))
    assert COLUMN + GAP < left.min() < right.max() < 2 * COLUMN + GAP


@pytest.mark.parametrize(("width", "letters"), [(64, SMALLEST), (1024, 1024 // 60), (6000, LARGEST)])
def test_letters_can_be_read_below_a_small_image_and_below_a_large_one(width, letters):
    strip = captioned(np.zeros((10, width, 3), np.uint8), "H")[10:]
    dark = np.flatnonzero((strip < 128).all(axis=2).any(axis=1))
    assert 0.6 * letters <= np.ptp(dark) + 1 <= letters


def test_a_long_caption_is_wrapped_and_nothing_of_it_is_lost():
    one, long = (captioned(np.zeros((10, 400, 3), np.uint8), text) for text in ("word", "word " * 60))
    assert long.shape[1] == one.shape[1] == 400
    ink_of_one, ink = ((255 - picture[10:].astype(int)).sum() for picture in (one, long))
    assert ink == pytest.approx(60 * ink_of_one, rel=0.01)
