"""Numbers in Dagster that are of another split than the ones before them are marked."""

from __future__ import annotations

import dagster as dg
import pytest

from derm_assets.marks import split_marks

pytestmark = pytest.mark.slow

KEY = dg.AssetKey(["lesion_classification", "evaluation"])


def test_dagsters_plots_have_the_number_beside_the_values():
    """The UI plots bare numbers: without a series that steps, a new test split looks like a better model."""
    with dg.instance_for_test() as instance:
        numbers = []
        for test, recent in (("a", None), ("a", "x"), ("b", "y"), ("a", "y")):
            hashes = {"split": test} | ({"recent_split": recent} if recent else {})
            marks = split_marks(instance, KEY, hashes)
            numbers.append({name: value.value for name, value in marks.items() if name.endswith("_number")})
            instance.report_runless_asset_event(dg.AssetMaterialization(KEY, metadata=marks))
        assert [found["split_number"] for found in numbers] == [1, 1, 2, 1]
        assert [found.get("recent_split_number") for found in numbers] == [None, 1, 2, 2]
