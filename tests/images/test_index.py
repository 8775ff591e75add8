"""The index finds what a plain comparison finds: a neighbour it misses is one a reader never sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.embeddings.extract import unit
from derm_ml.images.index import VectorIndex


def crowd(n: int, dimension: int = 32, seed: int = 0) -> np.ndarray:
    """Unit vectors in clumps, as embeddings are."""
    rng = np.random.default_rng(seed)
    clumps = rng.normal(size=(40, dimension))
    return unit(clumps[rng.integers(40, size=n)] + 0.4 * rng.normal(size=(n, dimension)))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_exact_search_is_sorting_by_cosine(n, k, seed):
    x, queries = crowd(n, 8, seed), crowd(3, 8, seed + 1)
    scores, places = VectorIndex.build(x).search(queries, k)
    expected = np.sort(queries @ x.T, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(scores[:, : expected.shape[1]], expected, atol=1e-5)
    assert (places[:, n:] == -1).all()


@pytest.mark.parametrize("kind", ["exact", "approximate"])
def test_only_what_is_allowed_is_found_and_all_of_it_however_little(kind):
    """The same patient, or a licence nobody may show, must not slip in; and few remaining must not look like none."""
    x = crowd(3000)
    index = VectorIndex.build(x, kind)
    for allowed in (np.arange(3000) % 3 == 0, np.arange(3000) < 2):
        _, places = index.search(x[:20], 5, allowed)
        assert allowed[places[places >= 0]].all()
        assert (places >= 0).sum(axis=1).min() == min(5, allowed.sum())


def test_the_approximate_index_finds_nearly_all_and_is_the_same_each_time():
    x = crowd(6000)
    index, again = VectorIndex.build(x, "approximate"), VectorIndex.build(x, "approximate")
    _, truth = VectorIndex.build(x, "exact").search(x[:200], 10)
    _, found = index.search(x[:200], 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)]) > 0.9
    np.testing.assert_array_equal(found, again.search(x[:200], 10)[1])


@pytest.mark.parametrize("kind", ["exact", "approximate"])
def test_a_stored_index_answers_as_before(kind, tmp_path):
    x = crowd(2000)
    index = VectorIndex.build(x, kind)
    index.save(tmp_path / "vectors.faiss")
    loaded = VectorIndex.load(tmp_path / "vectors.faiss")
    assert (loaded.kind, len(loaded), loaded.dimension) == (kind, 2000, 32)
    np.testing.assert_array_equal(index.search(x[:9], 4)[1], loaded.search(x[:9], 4)[1])


def test_nothing_to_index_is_an_error():
    with pytest.raises(ValueError, match="no vectors"):
        VectorIndex.build(np.empty((0, 4), np.float32))
