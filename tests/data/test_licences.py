"""Which licences let images make a model for which target: a mistake is a claim against whoever ships the model."""

from __future__ import annotations

import pytest

from derm_ml.data.licences import forbidden


@pytest.mark.parametrize(
    "name", ["CC0-1.0", "CC-0", "cc_0", "CC-BY", "CC BY 4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0", "public domain"]
)
def test_what_allows_commercial_use(name):
    assert forbidden({name: 3}, "commercial") == []


@pytest.mark.parametrize(
    "name",
    ["CC-BY-NC-4.0", "CC-BY-NC", "CC-BY-ND-4.0", "CC-BY-NC-SA-3.0 (annotations)", "research and education only",
     "Stanford, research use", "SCIN Data Use License", "unknown", "", "MITRE", "not MIT", "all rights reserved"],
)  # fmt: skip
def test_what_is_not_known_to_allow_it_does_not(name):
    (sentence,) = forbidden({"CC0-1.0": 7, name: 3}, "commercial")
    assert "the licences of 3 of 10 images do not allow or do not say" in sentence
    assert f"{name} (3)" in sentence


def test_research_takes_what_is_published_for_it():
    assert forbidden({"CC-BY-NC-4.0": 3, "unknown": 1}, "research") == []
    assert forbidden({}, "research") == []
    assert "All rights reserved (2)" in forbidden({"All rights reserved": 2}, "research")[0]


def test_a_model_that_does_not_say_is_not_commercial():
    assert "train it again" in forbidden({}, "commercial")[0]


def test_the_worst_are_named_first_and_the_rest_counted():
    (sentence,) = forbidden({f"NC {n}": n for n in range(1, 6)}, "commercial")
    assert "NC 5 (5), NC 4 (4), NC 3 (3) and 2 more licences" in sentence
