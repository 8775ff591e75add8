"""What stands in Dagster's records must be small and plottable."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from derm_assets.display import LARGEST, numbers, picture, problem_table, table
from derm_ml.records import Problem

pytestmark = pytest.mark.slow  # computes for long


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


def test_a_table_shows_names_as_they_are():
    value = problem_table([Problem("a|b\nc.jpg", "cut short", 3)])
    assert [record.data for record in value.records] == [{"file": "a|b\\nc.jpg", "row": "3", "reason": "cut short"}]


def test_a_long_list_says_how_much_is_missing():
    records = problem_table([Problem(f"{n}.jpg", "empty") for n in range(50)]).records
    assert len(records) == 21
    assert records[-1].data == {"file": "… and 30 more", "row": "", "reason": ""}


def test_rows_may_have_different_columns():
    """Findings name what they found: one row has a patient, the next a lesion."""
    records = table([{"a": 1}, {"b": 0.25}]).records
    assert [record.data for record in records] == [{"a": "1", "b": ""}, {"a": "", "b": "0.2500"}]


def test_nothing_to_show_is_an_empty_table():
    assert table([]).records == []
