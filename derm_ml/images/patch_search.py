"""Which images share patches: the candidates of a search for copies, without comparing every two images.

    search = PatchSearch(centres)                  a patch for each cell
    search.add(features)                           image 0, 1, 2 …, in order
    pairs = search.candidates([0, 1], [features, others])         rows of `CANDIDATE`: the best few of each image

Patches lie in cells around a sample of themselves, and a patch is looked for in the nearest cells. Cells grow in number
with the patches and not in size, and the nearest are found by walking a graph (HNSW: Malkov & Yashunin 2020,
doi:10.1109/TPAMI.2018.2889473), so a patch costs nearly the same among a thousand images and among a million.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from derm_ml.images.local_features import UNIT, LocalFeatures, flipped_descriptors

CELL = 64  # patches in each, on average
CELLS_SEARCHED = 12  # what they miss of an exact search: docs/results.md
NEIGHBOURS = 8  # of a patch
CANDIDATES = 4  # of an image: copies planted among real images were the first, now and then the second or third
CHANCE = 0.6  # cosine of patches that have nothing to do with each other: a vote counts what lies above
LEAST_VOTES = 0.4
TURNS, SCALES = 12, 16  # classes of 30° and of an octave: patches of copies are all turned and scaled alike

CANDIDATE = np.dtype([("a", "i4"), ("b", "i4"), ("mirrored", "?"), ("votes", "f4")])


class PatchSearch:
    """An index of the patches of images, known by the order in which they were added; about 5 kB an image."""

    def __init__(self, centres: np.ndarray) -> None:
        """`centres` (n, 128) uint8: patches drawn by chance from the whole set, one for each cell."""
        self._cells = faiss.IndexHNSWFlat(128, 16)
        self._cells.add(centres.astype(np.float32))
        self._cells.hnsw.efSearch = 2 * CELLS_SEARCHED
        self._index = faiss.IndexIVFScalarQuantizer(
            self._cells, 128, len(centres), faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2, False
        )
        self._index.train(centres[:1].astype(np.float32))  # the cells are there; nothing else is learned
        self._index.nprobe = CELLS_SEARCHED
        self._turns: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._counts: list[int] = []
        self._facts: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(self, features: Sequence[LocalFeatures]) -> None:
        """The next images."""
        self._facts = None
        self._counts += [len(f.places) for f in features]
        self._turns += [f.places[:, 3].astype(np.float16) for f in features]
        self._sizes += [np.log2(f.places[:, 2]).astype(np.float16) for f in features]
        if descriptors := [f.descriptors for f in features if len(f.places)]:
            self._index.add(np.concatenate(descriptors).astype(np.float32))

    def candidates(self, images: Sequence[int], features: Sequence[LocalFeatures]) -> np.ndarray:
        """For each of the `images` the others that share most patches turned and scaled alike: `CANDIDATE` rows.

        `mirrored` says that the image `a`, flipped left to right, resembles `b`.
        """
        if not any(len(f.places) for f in features) or not self._index.ntotal:
            return np.empty(0, CANDIDATE)
        queries = np.concatenate([f.descriptors for f in features])
        places = np.concatenate([f.places for f in features])
        asking = np.repeat(np.asarray(images), [len(f.places) for f in features])
        sizes = np.log2(places[:, 2])
        votes = [
            self._votes(asking, queries, places[:, 3], sizes, flip=False),
            self._votes(asking, flipped_descriptors(queries), -places[:, 3], sizes, flip=True),
        ]
        return _best(np.concatenate(votes))

    def _votes(
        self, asking: np.ndarray, queries: np.ndarray, turn: np.ndarray, size: np.ndarray, flip: bool
    ) -> np.ndarray:
        """Every image that shares patches with one of those that ask, in any turn and scale: `CANDIDATE` rows."""
        owners, turns, sizes = self._known()
        squared, found = self._index.search(queries.astype(np.float32), NEIGHBOURS)
        rows, columns = np.nonzero((found >= 0) & (squared < 2 * (1 - CHANCE) * UNIT**2))
        others = asking[rows] != owners[found[rows, columns]]
        rows, columns = rows[others], columns[others]
        place = found[rows, columns]
        a, b, weight = asking[rows], owners[place], 1 - CHANCE - squared[rows, columns] / (2 * UNIT**2)
        turned = (turns[place] - turn[rows]) % 360 / (360 / TURNS)
        larger = sizes[place] - size[rows] + SCALES / 2
        pairs = []
        for half in (0, 0.5):  # what falls beside the edge of a class lies within one of the others
            classes = (turned + half).astype(int) % TURNS * SCALES + np.clip(larger + half, 0, SCALES - 1).astype(int)
            key = (a.astype(np.int64) << 32 | b) * (TURNS * SCALES) + classes
            which, inverse = np.unique(key, return_inverse=True)
            pair = np.empty(len(which), CANDIDATE)
            both = which // (TURNS * SCALES)
            pair["a"], pair["b"], pair["mirrored"] = both >> 32, both & 0xFFFFFFFF, flip
            pair["votes"] = np.bincount(inverse, weight, len(which))
            pairs.append(pair[pair["votes"] >= LEAST_VOTES])
        return np.concatenate(pairs)

    def _known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each patch: whose it is, its direction, its size."""
        if self._facts is None:
            owners = np.repeat(np.arange(len(self._counts), dtype=np.int32), self._counts)
            self._turns, self._sizes = [np.concatenate(self._turns)], [np.concatenate(self._sizes)]
            self._facts = owners, self._turns[0], self._sizes[0]
        return self._facts


def _best(pairs: np.ndarray) -> np.ndarray:
    """Of each two images the way that most patches vote for; of each image `a` the few with most votes."""
    order = np.lexsort((pairs["mirrored"], -pairs["votes"], pairs["b"], pairs["a"]))
    pairs = pairs[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs["a"][1:] != pairs["a"][:-1]) | (pairs["b"][1:] != pairs["b"][:-1])
    pairs = pairs[new]
    pairs = pairs[np.lexsort((pairs["b"], -pairs["votes"], pairs["a"]))]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs["a"], pairs["a"])
    return pairs[rank < CANDIDATES]
