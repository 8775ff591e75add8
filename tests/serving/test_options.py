"""Query parameters: only sensible ones reach a task, and a refusal never repeats what was sent."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from serving.options import OPTIONS, OptionError, read_options

LABELS = ("melanoma", "nevus")
names = st.one_of(st.sampled_from(tuple(OPTIONS)), st.text(max_size=8))
values = st.one_of(
    st.sampled_from(("melanoma", "female", "Male", "63", "nan", "inf", "-0", "1e3", "")), st.text(max_size=8)
)


@given(st.lists(st.tuples(names, values), max_size=4))
def test_what_passes_is_known_once_and_in_range(pairs):
    """Anything else is one clear error: a task's code must never meet a stranger's text."""
    try:
        options = read_options(pairs, LABELS)
    except OptionError:
        return
    assert set(options) <= set(OPTIONS)
    assert options.get("label", "nevus") in LABELS
    assert options.get("sex", "male").lower() in ("male", "female")
    assert 0 <= float(options.get("age", 0)) <= 120
    assert math.isfinite(float(options.get("age", 0)))
