"""Nearest neighbours among unit vectors by cosine: one interface, exact for small sets, approximate for large ones.

    index = VectorIndex.build(unit(vectors))
    scores, places = index.search(unit(queries), k=5)

The search is faiss (Douze et al. 2024, arXiv:2401.08281). Up to `EXACT` vectors every one is compared; above, an
inverted file: the vectors are dealt to the nearest of about 4·√N centres, and only the nearest eighth of these
cells is searched. What that costs and what it misses is measured by benchmarks/similar_images.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import faiss
import numpy as np

EXACT = 50_000  # vectors; comparing one query with so many takes some 20 ms on one core
CELLS_SEARCHED = 1 / 8  # of the inverted file's cells
PER_CENTRE = 40  # training vectors a centre is fitted on: faiss warns below 39
SEED = 1234  # faiss's own; said here so that the same vectors give the same index

Kind = Literal["exact", "approximate"]


class VectorIndex:
    """An index of N unit vectors of D numbers, known by their places 0..N-1."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: np.ndarray, kind: Kind | None = None) -> VectorIndex:
        """Index (N, D) float32 rows of length 1; `kind` None chooses by N. Raises `ValueError` for no vectors."""
        n, dimension = vectors.shape
        if not n:
            raise ValueError("there are no vectors to index")
        if (kind or ("exact" if n <= EXACT else "approximate")) == "exact":
            index: faiss.Index = faiss.IndexFlatIP(dimension)
        else:
            centres = max(1, min(round(4 * n**0.5), n // PER_CENTRE))
            # half precision halves the memory and moves a cosine by less than 1e-3
            index = faiss.index_factory(dimension, f"IVF{centres},SQfp16", faiss.METRIC_INNER_PRODUCT)
            index.cp.seed, index.cp.niter = SEED, 10
            index.nprobe = max(1, round(centres * CELLS_SEARCHED))
            chosen = np.random.default_rng(SEED).permutation(n)[: centres * PER_CENTRE]
            index.train(vectors[np.sort(chosen)])
        index.add(vectors)
        return cls(index)

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dimension(self) -> int:
        return self._index.d

    @property
    def kind(self) -> Kind:
        return "exact" if isinstance(self._index, faiss.IndexFlat) else "approximate"

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The `k` nearest of each query (Q, D): cosines (Q, k) float32 falling, and places (Q, k) int64.

        `allowed` (N,) bool says which vectors may be found. A place is -1 where there is no further neighbour.
        """
        options = None
        if allowed is not None:
            # faiss wraps these classes at import: a type checker sees the constructors of C++
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # pyright: ignore
            options = faiss.SearchParameters(sel=selector)  # pyright: ignore
            if self.kind == "approximate":  # the fewer may be found, the farther they lie
                cells = min(self._index.nlist, math.ceil(self._index.nprobe / max(float(allowed.mean()), 1e-9)))
                options = faiss.SearchParametersIVF(sel=selector, nprobe=cells)  # pyright: ignore
        return self._index.search(np.ascontiguousarray(queries, np.float32), k, params=options)

    def save(self, path: Path) -> None:
        """Write the index into one file."""
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path) -> VectorIndex:
        """Read what `save` wrote. The caller has verified the file's sha256: faiss trusts what it reads."""
        return cls(faiss.read_index(str(path)))
