"""Performance without labels: only as good as the probabilities, so it must at least be right where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.metrics.classification import auc
from derm_ml.metrics.expected import expected_auc, expected_auc_of

shares = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.3, 0.7, 1.0]), min_size=2, max_size=12)


@given(shares)
def test_it_agrees_with_counting_pairs(given_shares):
    p = np.array(given_shares)
    above, pairs = 0.0, 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                weight = p[i] * (1 - p[j])
                pairs += weight
                above += weight * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    found = expected_auc(p, np.ones((1, len(p))))[0]
    assert found == pytest.approx(above / pairs) if pairs > 1e-12 else np.isnan(found)


@pytest.mark.slow  # resamples
def test_where_probabilities_are_right_it_is_the_auc_and_where_they_are_not_it_does_not_see_it():
    """The blind spot that is printed beside it."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.6, 1.4, 4000)
    truth = (rng.random(4000) < p).astype(float)
    metric = expected_auc_of(p, np.arange(4000).astype(str))
    assert metric.value == pytest.approx(float(auc(p, truth, np.ones((1, 4000)))[0]), abs=0.02)
    assert metric.low < metric.value < metric.high
    wrong = rng.permutation(truth)
    assert abs(float(auc(p, wrong, np.ones((1, 4000)))[0]) - 0.5) < 0.05
    assert expected_auc_of(p, np.arange(4000).astype(str)) == metric


def test_few_images_are_not_judged():
    assert "not evaluable" in expected_auc_of(np.full(29, 0.5), [str(n) for n in range(29)]).note
    assert "no pair is expected to differ" in expected_auc_of(np.zeros(40), [str(n) for n in range(40)]).note
