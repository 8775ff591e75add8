"""The chain of ids, from either end, on plain values; tests/derm_assets/test_trace.py walks a real one."""

from __future__ import annotations

import pytest

from derm_ml.promotion.contract import Registered
from derm_ml.trace import TraceError, chain_of

PREDICTION, IMAGE = "c962a05e2e054d8991d3f701bd6bfcaf", "17508feac28b" + "0" * 52
ONE = Registered(
    1, "aaaaaaaaaaaa", "1" * 32 + ".dir", "c0ffee1", "a" * 32, ("dag-one", "dag-two"), "champion", "released", "t:x1"
)
TWO = Registered(2, "bbbbbbbbbbbb", "2" * 32 + ".dir", "c0ffee2", "b" * 32)
SOURCES = {"1" * 32: ["april", "isic2017"], "2" * 32: ["april", "may"]}
RECORDS = [
    {"prediction_id": PREDICTION, "images": [IMAGE], "model_version": "aaaaaaaaaaaa"},
    {"prediction_id": "0" * 32, "images": ["f" * 64], "model_version": "aaaaaaaaaaaa"},
]


def numbers(given: str) -> list[int]:
    return [link.version.number for link in chain_of(given, [ONE, TWO], SOURCES, RECORDS).links]


@pytest.mark.parametrize(
    "given",
    [PREDICTION, PREDICTION[:8], IMAGE, "t:x1", "x1", "aaaaaaaaaaaa", "1", "1" * 32 + ".dir", "1" * 12, "a" * 32,
     "dag-two", "c0ffee1", " c0ffee1 ", "isic2017"],
)  # fmt: skip
def test_each_id_leads_to_its_version_and_all_that_hangs_on_it(given):
    (link,) = chain_of(given, [ONE, TWO], SOURCES, RECORDS).links
    assert link.version == ONE
    assert link.deliveries == ("april", "isic2017")
    assert link.predictions == 2


def test_what_several_versions_share_leads_to_all_of_them():
    """A delivery that turns out to be wrong is in both, a commit made both."""
    assert numbers("april") == [1, 2]
    assert numbers("may") == [2]
    assert numbers("c0ffee") == [1, 2]


def test_a_prediction_of_a_model_the_registry_lost_is_still_shown():
    chain = chain_of(PREDICTION, [TWO], SOURCES, RECORDS)
    assert [record["prediction_id"] for record in chain.records] == [PREDICTION]
    assert chain.links == ()


@pytest.mark.parametrize("given", ["", "a", "aaaaa", "nothing", "3", "isic"])
def test_what_is_too_short_or_unknown_leads_nowhere(given):
    """Five characters would be an id of several things."""
    with pytest.raises(TraceError, match="nothing here is called"):
        chain_of(given, [ONE, TWO], SOURCES, RECORDS)
