"""Options: only sensible ones reach a task, and a refusal never repeats what was sent."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.asking.options import AGE, LABEL, POINT, SEX, SIZE, AskingError, Option, read_options

CARD = SimpleNamespace(labels=("melanoma", "nevus"), point_names=("balanced",), attributes=("age",))
KNOWN = {option.name: option for option in (AGE, SEX, LABEL, POINT, SIZE)}
names = st.one_of(st.sampled_from(tuple(KNOWN)), st.text(max_size=8))
values = st.one_of(
    st.sampled_from(("melanoma", "female", "Male", "63", "nan", "inf", "-0", "1e3", "", "balanced", "256", "٣٠٠")),
    st.text(max_size=8),
)


@given(st.lists(st.tuples(names, values), max_size=4))
def test_what_passes_is_known_once_and_in_range(pairs):
    """Anything else is one clear error: a task's code must never meet a stranger's text."""
    try:
        options = read_options(pairs, KNOWN, CARD)
    except AskingError:
        return
    assert set(options) <= set(KNOWN)
    assert options.get("label", "nevus") in CARD.labels
    assert options.get("point", "balanced") in CARD.point_names
    assert options.get("sex", "male") in ("male", "female")
    assert 0 <= float(options.get("age", 0)) <= 120
    assert math.isfinite(float(options.get("age", 0)))
    assert 64 <= int(options.get("size", 64)) <= 2048


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.strip()))
def test_a_refusal_repeats_nothing_that_was_sent(text):
    mark = f"<{text}>"
    for name in (*KNOWN, mark):
        with pytest.raises(AskingError) as refused:
            read_options([(name, mark)], KNOWN, CARD)
        assert mark not in str(refused.value)


def test_a_model_has_a_use_only_for_what_it_was_trained_with():
    """A person who types an age must not believe that it counted where it did not."""
    assert AGE.is_used_by(CARD)
    assert not SEX.is_used_by(CARD)
    assert not POINT.is_used_by(SimpleNamespace(labels=(), point_names=(), attributes=()))


def test_the_schema_says_what_the_check_accepts():
    """A client generated from the description must not send what is refused."""
    depth = Option("depth", "how deep", "integer", low=1, high=9, default="2")
    assert depth.schema() == {"type": "integer", "minimum": 1, "maximum": 9, "default": 2}
    for text in ("1", "9"):
        assert depth.read(text) == text
    for text in ("0", "10", "2.5", "", "1e0"):
        with pytest.raises(AskingError, match="a whole number from 1 to 9"):
            depth.read(text)
    assert LABEL.schema(CARD)["enum"] == ["melanoma", "nevus"]
