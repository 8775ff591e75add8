"""What a source reader hands over: labels by name, nothing lost on the way."""

from __future__ import annotations

import pytest

from derm_ml.records import DataError, Problem, Reading, Sample, one_hot, with_prefix

LABELS = ("melanoma", "nevus")


def sample(name: str, label: str = "nevus") -> Sample:
    return Sample(name, {"image": f"{name}.jpg"}, one_hot(label, LABELS))


def test_label_of_a_sample():
    assert sample("a", "melanoma").label == "melanoma"
    assert Sample("a", {}, {"x": 1, "w": 1, "v": 0}).label == "w+x"
    assert Sample("a", {}, {"x": 0}).label == "none"
    assert Sample("a", {}).label == "unlabelled"


def test_unknown_label_is_named():
    with pytest.raises(DataError, match="unknown label 'wart'"):
        one_hot("wart", LABELS)


def test_prefix_moves_paths_and_keeps_what_was_left_out():
    reading = Reading((sample("a"),), (Problem("list.csv", "why", 3),), {"bcc": 2})
    moved = with_prefix(reading, "isic", "isic")
    assert moved.samples[0].files == {"image": "isic/a.jpg"}
    assert moved.samples[0].source == "isic"
    assert moved.problems == (Problem("isic/list.csv", "why", 3),)
    assert moved.left_out == {"bcc": 2}
    assert with_prefix(reading, "", "here").samples[0].files == {"image": "a.jpg"}
