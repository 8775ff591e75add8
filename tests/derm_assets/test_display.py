"""What stands in Dagster's records must be small and plottable."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from derm_assets.display import LARGEST, numbers, picture, problem_table
from derm_ml.records import Problem


def png(side: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)  # what compresses worst
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def shown(value) -> bytes:
    return base64.b64decode(value.md_str.removeprefix("![](data:image/png;base64,").removesuffix(")"))


def test_a_small_picture_is_shown_as_it_is():
    assert shown(picture(png(64))) == png(64)


def test_a_large_picture_is_made_small_enough_to_be_recorded():
    """A megabyte in every event makes the UI unusable within weeks."""
    value = picture(png(900))
    assert len(value.md_str) < LARGEST + 100
    assert Image.open(io.BytesIO(shown(value))).format == "PNG"


def test_what_is_not_a_number_is_not_plotted():
    assert set(numbers({"auc": 0.9, "nan": float("nan"), "inf": float("inf")})) == {"auc"}


def test_a_file_name_cannot_break_the_table():
    text = problem_table([Problem("a|b\nc.jpg", "cut short", 3)]).md_str
    assert text.splitlines()[2] == "| a\\|b c.jpg | 3 | cut short |"


def test_a_long_list_says_how_much_is_missing():
    assert problem_table([Problem(f"{n}.jpg", "empty") for n in range(50)]).md_str.endswith("… and 30 more")
