"""Which images share patches: the candidates of a search for copies, without comparing every two images.

    patches = Patches.of([features, others])                      what is kept of some images
    search = PatchSearch(patches.sample([1, 2]), size=1000)       a patch of each image for the cells
    cells = search.cells_of(patches)                              the nearest few of each patch
    search.add(patches, cells[:, 0])                              image 0, 1, 2 …, in order
    pairs = search.candidates([0, 1], [features, others], cells)  rows of `CANDIDATE`: the best few of each image

Patches lie in cells around a sample of themselves, and a patch is looked for in the nearest cells. Cells grow in number
with the patches and not in size, and the nearest are found by walking a graph (HNSW: Malkov & Yashunin 2020,
doi:10.1109/TPAMI.2018.2889473), so a patch costs nearly the same among a thousand images and among a million.

Of the 128 numbers of a descriptor 64 slow waves are kept (`shortened`), which hold 94 % of what patches differ in: half
the memory, and half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from derm_ml.images.local_features import FEATURES, UNIT, LocalFeatures, flipped_descriptors

CELLS_SEARCHED = 12  # what they miss of an exact search: docs/results.md
NEIGHBOURS = 8  # of a patch
PIVOTS = 256  # patches that the others are put in order by
CANDIDATES = 4  # of an image: of 1468 copies planted among real images all but eight were the first
CHANCE = 0.6  # cosine of patches that have nothing to do with each other: a vote counts what lies above
LEAST_VOTES = 0.6  # copies of real images had 0.76 or more, half of what was no copy less than 0.73
TURNS, SCALES = 12, 16  # classes of 30° and of an octave: patches of copies are all turned and scaled alike
WAVES = 64  # kept of the 128 of a descriptor
SHORTER = 0.83  # squared distance of two shortened descriptors, of that of the whole ones: mean of neighbours
STEP = 4.0  # of a wave, in the units of a descriptor: 460 at most, so that it fits into a signed byte

# by speed down (a line each) and across (a group each): the waves that patches of skin differ most in
_KEPT = """
######## #######. ######.. .#.#....
#######. #####.#. #####... .##.#...
#####... #####... #####... .#......
..#.#... ..#..... ..#..... ........
"""

CANDIDATE = np.dtype([("a", "i4"), ("b", "i4"), ("mirrored", "?"), ("votes", "f4")])


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of some images as a search keeps them.

    `counts` (n,) of each image, `codes` (P, WAVES) int8, shortened descriptors, `turns` (P,) and `sizes` (P,) float16:
    degrees, and octaves of their diameter in pixels.
    """

    counts: np.ndarray
    codes: np.ndarray
    turns: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, features: Sequence[LocalFeatures]) -> Patches:
        places = np.concatenate([f.places for f in features])
        return cls(
            np.array([len(f.places) for f in features], np.int64),
            shortened(np.concatenate([f.descriptors for f in features])).astype(np.int8),
            places[:, 3].astype(np.float16),
            np.log2(places[:, 2]).astype(np.float16),
        )

    def sample(self, seeds: Sequence[int]) -> np.ndarray:
        """(at most n, WAVES) float32, one patch of each image that has any, drawn by chance but always the same."""
        ends = np.cumsum(self.counts)
        drawn = [
            end - count + int(np.random.default_rng(seed).integers(count))
            for seed, count, end in zip(seeds, self.counts.tolist(), ends.tolist(), strict=True)
            if count
        ]
        return self.codes[np.array(drawn, int)].astype(np.float32)

    def tobytes(self) -> bytes:
        parts = (self.counts.astype(np.uint8), self.codes, self.turns, self.sizes)
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def frombytes(cls, data: bytes, n: int) -> Patches:
        """What `tobytes` gave of `n` images."""
        counts = np.frombuffer(data, np.uint8, n).astype(np.int64)
        found = int(counts.sum())
        codes = np.frombuffer(data, np.int8, found * WAVES, n).reshape(found, WAVES)
        turns, sizes = np.frombuffer(data, np.uint8, offset=n + found * WAVES).view(np.float16).reshape(2, found)
        return cls(counts, codes, turns, sizes)


class PatchSearch:
    """An index of the patches of images, known by the order in which they were added; about 4 kB an image."""

    def __init__(self, centres: np.ndarray | faiss.Index, size: int) -> None:
        """`centres` (n, WAVES) float32: a shortened patch for each cell, or the graph of an earlier search that has the
        same ones. `size`: how many images will be added at most."""
        self.cells: Any = _graph(centres) if isinstance(centres, np.ndarray) else centres
        self.cells.hnsw.efSearch = 2 * CELLS_SEARCHED
        self._pivots = self.cells.reconstruct_batch(_pivots(self.cells.ntotal))
        self._index = faiss.IndexIVFScalarQuantizer(
            self.cells, WAVES, self.cells.ntotal, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_L2, False
        )
        self._index.train(np.zeros((1, WAVES), np.float32))  # the cells are there; nothing else is learned
        self._index.nprobe = min(CELLS_SEARCHED, self.cells.ntotal)
        self._index.parallel_mode = 3  # one patch after another, on all cores
        self._turns, self._sizes = (np.zeros((size, FEATURES), np.float16) for _ in range(2))
        self._count = 0

    def cells_of(self, patches: Patches) -> np.ndarray:
        """(P, n) int64: the cells that are searched for every patch. It lies in the first, which `add` takes."""
        return self._nearest(patches.codes.astype(np.float32))

    def _nearest(self, codes: np.ndarray) -> np.ndarray:
        found = np.empty((len(codes), self._index.nprobe), np.int64)
        if len(codes):
            order = _in_turn(codes, self._pivots)
            found[order] = self.cells.search(codes[order], self._index.nprobe)[1]
        return found

    def add(self, patches: Patches, cells: np.ndarray) -> None:
        """The next images, whose patches lie in these cells."""
        rows = slice(self._count, self._count + len(patches.counts))
        theirs = np.arange(FEATURES) < patches.counts[:, None]
        self._turns[rows][theirs], self._sizes[rows][theirs] = patches.turns, patches.sizes
        ids = (np.arange(rows.start, rows.stop)[:, None] * FEATURES + np.arange(FEATURES))[theirs]
        self._count = rows.stop
        if not len(ids):
            return
        codes = np.ascontiguousarray(patches.codes, np.float32)
        ids, cells = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(cells, np.int64)
        self._index.add_core(len(ids), faiss.swig_ptr(codes), faiss.swig_ptr(ids), faiss.swig_ptr(cells))

    def candidates(self, images: Sequence[int], features: Sequence[LocalFeatures], cells: np.ndarray) -> np.ndarray:
        """For each of the `images` the others that share most patches turned and scaled alike: `CANDIDATE` rows.

        `cells` are those of their patches. `mirrored` says that the image `a`, flipped left to right, resembles `b`.
        """
        if not any(len(f.places) for f in features) or not self._index.ntotal:
            return np.empty(0, CANDIDATE)
        queries = np.concatenate([f.descriptors for f in features])
        places = np.concatenate([f.places for f in features])
        asking = np.repeat(np.asarray(images), [len(f.places) for f in features])
        sizes = np.log2(places[:, 2])
        codes, flipped = shortened(queries), shortened(flipped_descriptors(queries))
        votes = [
            self._votes(asking, codes, cells, places[:, 3], sizes, flip=False),
            self._votes(asking, flipped, self._nearest(flipped), -places[:, 3], sizes, flip=True),
        ]
        return _best(np.concatenate(votes))

    def _votes(
        self, asking: np.ndarray, codes: np.ndarray, cells: np.ndarray, turn: np.ndarray, size: np.ndarray, flip: bool
    ) -> np.ndarray:
        """Every image that shares patches with one of those that ask, in any turn and scale: `CANDIDATE` rows."""
        squared, found = self._index.search_preassigned(codes, NEIGHBOURS, cells, np.zeros(cells.shape, np.float32))
        squared = squared * (STEP**2 / SHORTER)
        rows, columns = np.nonzero((found >= 0) & (squared < 2 * (1 - CHANCE) * UNIT**2))
        others = asking[rows] != found[rows, columns] // FEATURES
        rows, columns = rows[others], columns[others]
        owner, place = np.divmod(found[rows, columns], FEATURES)
        a, b, weight = asking[rows], owner, 1 - CHANCE - squared[rows, columns] / (2 * UNIT**2)
        turned = (self._turns[owner, place].astype(np.float32) - turn[rows]) % 360 / (360 / TURNS)
        larger = self._sizes[owner, place].astype(np.float32) - size[rows] + SCALES / 2
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


def shortened(descriptors: np.ndarray) -> np.ndarray:
    """(n, WAVES) float32 of whole numbers in -128..127: the slow waves of descriptors (n, 128), in steps of `STEP`."""
    return np.clip(np.rint(descriptors.astype(np.float32) @ _WAVES), -128, 127)


def graph_bytes(cells: faiss.Index) -> bytes:
    """The graph of a search's cells, for `graph_of`."""
    return faiss.serialize_index(cells).tobytes()


def graph_of(data: bytes) -> faiss.Index:
    """The graph that `graph_bytes` gave."""
    return faiss.deserialize_index(np.frombuffer(data, np.uint8))


def _graph(centres: np.ndarray) -> Any:
    """By one thread: several would tie other knots each time, and find other candidates.

    Cells alike lie beside each other, so what is read while a patch is looked for is in the processor's caches more
    often: at 590,000 cells the nearest are found in 0.65 of the time (docs/results.md).
    """
    in_bytes: Any = faiss.ScalarQuantizer.QT_8bit_direct_signed  # as patches are
    graph = faiss.IndexHNSWSQ(WAVES, in_bytes, 16)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        centres = np.ascontiguousarray(centres, np.float32)
        graph.add(centres[_in_turn(centres, centres[_pivots(len(centres))])])
    finally:
        faiss.omp_set_num_threads(threads)
    return graph


def _pivots(centres: int) -> np.ndarray:
    """Which of so many centres are those by which `_in_turn` tells what is alike."""
    return np.arange(0, centres, -(-centres // PIVOTS))


def _in_turn(codes: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    """An order of shortened patches in which those beside the same pivot follow one another."""
    return np.argsort(faiss.knn(codes, pivots, 1)[1][:, 0], kind="stable")


def _slow_waves() -> np.ndarray:
    """(128, WAVES): cosines down the rows and across the columns of a descriptor, and waves around its directions."""
    k, x = np.arange(4)[:, None], np.arange(4)
    across = np.cos(np.pi * (x + 0.5) * k / 4) * np.where(k, np.sqrt(2 / 4), np.sqrt(1 / 4))
    angles = 2 * np.pi * np.arange(8) / 8
    around = [np.full(8, np.sqrt(1 / 8))]
    for speed in (1, 2, 3):
        around += [np.cos(speed * angles) * np.sqrt(2 / 8), np.sin(speed * angles) * np.sqrt(2 / 8)]
    around.append(np.cos(4 * angles) * np.sqrt(1 / 8))
    basis = np.kron(np.kron(across, across), np.array(around))
    kept = np.array([mark == "#" for mark in "".join(_KEPT.split())])
    return np.ascontiguousarray((basis[kept].T / STEP).astype(np.float32))


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


_WAVES = _slow_waves()
