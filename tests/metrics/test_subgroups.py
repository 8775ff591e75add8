"""Subgroups: a model that fails in one of them must not hide behind the average."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from derm_ml.metrics.subgroups import MINIMUM, MOST, bands, subgroup_decisions, subgroup_table


def drawn(n: int = 400) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "source": "one",
            "attribute.age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 90, n)),
            "attribute.sex": rng.choice(["male", "female", ""], n, p=[0.5, 0.48, 0.02]),
        }
    )
    y = (rng.random(n) < 0.3).astype(float)
    worse = (rows["attribute.sex"] == "female").to_numpy()
    return rows, rng.normal(size=n) + np.where(worse, 0.2, 3.0) * y, y


def test_a_failing_subgroup_is_seen_and_its_value_is_that_of_its_cases_alone():
    rows, s, y = drawn()
    table = {(row["attribute"], row["subgroup"]): row for row in subgroup_table(rows, s, y, np.arange(len(y)))}
    female = (rows["attribute.sex"] == "female").to_numpy()
    assert table["sex", "female"]["value"] == roc_auc_score(y[female], s[female])
    assert table["sex", "female"]["high"] < table["sex", "male"]["low"]


def test_a_small_subgroup_is_a_visible_state_with_its_n():
    rows, s, y = drawn()
    table = {(row["attribute"], row["subgroup"]): row for row in subgroup_table(rows, s, y, np.arange(len(y)))}
    small = table["sex", "unknown"]
    assert small["n"] < MINIMUM
    assert small["value"] is None
    assert small["remark"] == f"not evaluable (n = {small['n']})"


def test_age_is_in_bands_in_the_order_of_age_with_unknown_last():
    rows, s, y = drawn()
    found = [row["subgroup"] for row in subgroup_table(rows, s, y, np.arange(len(y)), ["age"])]
    assert found == ["0 to 29", "30 to 49", "50 to 69", "70 and over", "unknown"]
    assert bands(pd.DataFrame({"attribute.age": [29.9, 30, np.nan]}), "age").tolist() == [
        "0 to 29",
        "30 to 49",
        "unknown",
    ]


def test_attributes_that_are_absent_or_the_same_everywhere_make_no_rows():
    rows, s, y = drawn()
    assert subgroup_table(rows, s, y, np.arange(len(y)), ["source", "site"]) == []


def test_of_many_sites_the_rare_are_pooled_and_the_unknown_stay():
    """Twenty sites in free text: the cases of the rarest, and those of no known site, must not fall out silently."""
    sites = np.repeat([f"site {k:02d}" for k in range(19)] + [""], np.arange(40, 20, -1))
    rows, n = pd.DataFrame({"site": sites}), len(sites)
    y = np.arange(n) % 2.0
    for table in (
        subgroup_table(rows, np.arange(n) / n, y, np.arange(n), ["site"]),
        subgroup_decisions(rows, np.arange(n) % 3 == 0, y, np.arange(n), ["site"]),
    ):
        assert [row["subgroup"] for row in table][-3:] == ["site 10", f"other ({19 - MOST + 1} values)", "unknown"]
        assert sum(row["positives"] + row["negatives"] for row in table) == n


def test_every_case_with_a_known_target_is_in_exactly_one_subgroup_of_an_attribute():
    rows, s, y = drawn()
    y[:50] = np.nan
    table = subgroup_table(rows, s, y, np.arange(len(y)), ["sex"])
    assert sum(row["n"] for row in table) == len(y) - 50
