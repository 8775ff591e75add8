"""Where a million files lie is kept as columns: a row that came back otherwise would read another image."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.data import columns
from derm_ml.data.columns import Columns

ROW = st.fixed_dictionaries(
    {"image.shard": st.text(max_size=3), "image.offset": st.integers(0, 2**40)},
    optional={"mask.shard": st.text(max_size=3), "mask.offset": st.integers(0, 2**40), "mask.area": st.floats(0, 1)},
)


@given(st.lists(ROW, min_size=1, max_size=9), st.integers(1, 4))
def test_rows_come_back_as_a_table_of_them_would_have_been(rows, at_once):
    before, columns._AT_ONCE = columns._AT_ONCE, at_once
    try:
        stored = Columns()
        for row in rows:
            stored.append(row)
        found = stored.table().to_pandas()
    finally:
        columns._AT_ONCE = before
    names = list(dict.fromkeys(name for row in rows for name in row))
    expected = pd.DataFrame({name: [row.get(name) for row in rows] for name in names})
    pd.testing.assert_frame_equal(found, expected)
