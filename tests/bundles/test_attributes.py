"""What is not known of a person must reach the network as unknown, never as a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.bundles.attributes import encode_attributes


@given(st.one_of(st.none(), st.floats(0, 110)), st.sampled_from(["male", "female", "unknown", None]))
def test_a_missing_attribute_is_flagged_not_guessed(age, sex):
    given_ = {k: v for k, v in (("age", age), ("sex", sex)) if v is not None}
    row = encode_attributes([given_], ("age", "sex"))[0]
    assert row[1] == (age is None)
    assert row[3] == (sex not in ("male", "female"))
    assert row[0] == pytest.approx(0 if age is None else (age - 50) / 20, abs=1e-6)
