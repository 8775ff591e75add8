"""Shortcuts: what gives the label away without the disease is named; what a lesion may differ in is only listed."""

from __future__ import annotations

import numpy as np

from derm_ml.audit.shortcuts import MEASURES, SOURCE, shortcuts


def measured(n: int = 300, seed: int = 0, **given: np.ndarray):
    """Random measures but those given, a random label and one source, as (measures, sources, targets, groups)."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 3 == 0).astype(float)
    return (
        {name: rng.normal(size=n) for name in MEASURES} | given,
        ["clinic"] * n,
        label[:, None],
        np.arange(n).astype(str),
    )


def test_nothing_is_suspicious_where_nothing_is_linked():
    measures, sources, targets, groups = measured()
    found = shortcuts(measures, sources, targets, ["melanoma"], groups)
    assert {s.measure for s in found} == set(MEASURES)
    assert not any(s.suspicious for s in found)


def test_a_border_round_the_malignant_images_is_named_with_its_direction():
    rng = np.random.default_rng(1)
    label = np.arange(300) % 3 == 0
    measures, sources, targets, groups = measured(border=np.where(label, 0.3, 0.0) + rng.normal(0, 0.1, 300))
    first = shortcuts(measures, sources, targets, ["melanoma"], groups)[0]
    assert (first.measure, first.label, first.suspicious) == ("border", "melanoma", True)
    assert first.words == "with more of a black or white border"
    assert first.auc.low is not None
    assert first.auc.low > 0.9


def test_darker_lesions_are_listed_but_are_no_fault_of_the_collection():
    label = np.arange(300) % 3 == 0
    measures, sources, targets, groups = measured(brightness=np.where(label, 30.0, 60.0) + np.arange(300) / 100)
    first = shortcuts(measures, sources, targets, ["melanoma"], groups)[0]
    assert (first.measure, first.words) == ("brightness", "darker")
    assert first.strong
    assert not first.suspicious


def test_a_source_that_holds_one_class_tells_the_label_and_one_that_is_mixed_does_not():
    rng = np.random.default_rng(2)
    measures, _, targets, groups = measured()
    label = targets[:, 0] == 1
    for sources, expected in (
        (np.where(label & (rng.random(300) < 0.8), "cancer registry", "clinic"), True),
        (np.where(rng.random(300) < 0.5, "cancer registry", "clinic"), False),
    ):
        found = shortcuts(measures, sources.tolist(), targets, ["melanoma"], groups)
        source = next(s for s in found if s.measure == SOURCE)
        assert source.suspicious is expected, source


def test_many_small_sources_do_not_tell_the_label_by_their_own_images():
    """With its own label counted, a source of one image would tell that label without fail."""
    measures, _, targets, groups = measured()
    found = shortcuts(measures, [f"visit {k}" for k in range(300)], targets, ["melanoma"], groups)
    assert not next(s for s in found if s.measure == SOURCE).strong


def test_a_measure_that_is_the_same_in_all_images_is_left_out():
    measures, sources, targets, groups = measured(pixels=np.full(300, 512.0))
    assert "pixels" not in {s.measure for s in shortcuts(measures, sources, targets, ["melanoma"], groups)}
