"""Exact and near duplicates among images: copies that were flipped, turned by any angle, cropped, drawn over, resized.

    >>> from derm_ml.images.fingerprints import fingerprint
    >>> prints = {name: fingerprint(rgb) for name, rgb in {"a": image, "b": image[:, ::-1]}.items()}
    >>> [(pair.a, pair.b, pair.kind) for pair in find_duplicates(prints)]
    [('a', 'b', 'near')]

Three steps, each dearer a pair than the one before and asked of fewer:

1. **Search** (patch_search.py): images that share patches turned and scaled alike.
2. **Warp** (local_features.py): how one would lie on the other, and how many patches agree.
3. **Proof** (alignment.py): laid on each other, their details must be the same.

Recall by kind of change and false pairs: docs/results.md, by benchmarks/duplicates.py.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from derm_ml.cache import FORGETFUL, Cache, code_digest
from derm_ml.images.fingerprints import Fingerprint, compare
from derm_ml.images.local_features import LocalFeatures
from derm_ml.images.patch_search import CANDIDATE, Patches, PatchSearch, graph_bytes, graph_of

# Different lesions score at most 0.69 (12,160 images of ISIC 2017 and HAM10000), different eyes 0.79 (1100 of ODIR-5K),
# synthetic faces of different people 0.82; of planted copies see docs/results.md
THRESHOLD = 0.85
AT_ONCE = 512  # images whose patches are searched together: some 10 MB, and what is asked again when one is added
SEED = 1234

_PAIR = np.dtype([("a", "i4"), ("b", "i4"), ("score", "f8")])


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two ids, a < b. `exact`: the pixels are identical, score 1. `near`: score in THRESHOLD..1 after alignment."""

    a: str
    b: str
    kind: Literal["exact", "near"]
    score: float


def find_duplicates(
    fingerprints: Mapping[str, Fingerprint],
    threshold: float = THRESHOLD,
    progress: Callable[[int, int], None] = lambda *_: None,
    order: Sequence[str] | None = None,
    memory: Cache = FORGETFUL,
    pixels: Callable[[str], str] | None = None,
) -> list[DuplicatePair]:
    """All duplicate pairs, sorted by id.

    Of several identical images each is paired with the first, and only the first is compared with the rest. Images ask
    in `order` (by default that of their names) which of those before them they resemble: whoever is put behind the
    others changes nothing of what `memory` keeps of them. Takes 4 kB of memory an image beside `fingerprints`, which
    may lie on disk (`StoredPrints`), and all cores. With `pixels` of each name those are read only of images that ask.
    """
    first: dict[str, str] = {}
    pairs: list[DuplicatePair] = []
    for name in sorted(fingerprints) if order is None else order:
        original = first.setdefault(pixels(name) if pixels else fingerprints[name].pixels, name)
        if original != name:
            pairs.append(DuplicatePair(min(original, name), max(original, name), "exact", 1.0))
    sequence = Sequenced(fingerprints, list(first.values()), list(first), memory)
    del first
    for done, found in sequence.pairs():
        for a, b, score in found[found["score"] >= threshold].tolist():
            one, other = sequence.names[a], sequence.names[b]
            pairs.append(DuplicatePair(min(one, other), max(one, other), "near", round(score, 4)))
        progress(done, len(sequence.names))
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


class Sequenced:
    """Different images in an order, `AT_ONCE` at a time, each of which asks about itself and those before it.

    What a batch finds follows from the images up to its end alone. `memory` keeps it by a digest of them, so that a
    search that was killed goes on, and images put behind are the only ones that ask. The cells of the search are made
    of the images of the batches before the last power of two, so they stay the same until there are twice as many.
    """

    def __init__(
        self, prints: Mapping[str, Fingerprint], names: list[str], pixels: Sequence[str], memory: Cache = FORGETFUL
    ) -> None:
        self.names = names
        self._prints, self._memory = prints, memory
        self._starts = range(0, len(names), AT_ONCE)
        self._digests: list[bytes] = []  # of the images up to the end of each batch
        before = _code()
        for start in self._starts:
            before = hashlib.sha256(before + "".join(pixels[start : start + AT_ONCE]).encode()).digest()
            self._digests.append(before)

    def pairs(self) -> Iterator[tuple[int, np.ndarray]]:
        """How many images have asked, and the pairs they found: rows of `_PAIR`, all that could be aligned."""
        search: PatchSearch | None = None
        # one thread compares what a batch found while the next batch asks: several would wait for Python's lock
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(1) as pool:
            comparing: deque[Future[tuple[int, np.ndarray]]] = deque()
            for batch in range(len(self._starts)):
                if (kept := self._memory.get("pairs", self._digests[batch])) is None:
                    if search is None or _begins_anew(batch):
                        search = None  # two at once would be twice the memory
                        search = self._search_before(batch)
                    comparing.append(pool.submit(self._compared, batch, self._ask(search, batch)))
                else:
                    search = None
                    comparing.append(pool.submit(self._told, batch, np.frombuffer(kept, _PAIR)))
                if len(comparing) > 1:
                    yield comparing.popleft().result()
            yield from (last.result() for last in comparing)
        self._keep_for_the_next()

    def candidates(self) -> Iterator[tuple[int, np.ndarray]]:
        """How many images have asked, and which pairs are worth a look: rows of `CANDIDATE`."""
        search: PatchSearch | None = None
        with threadpool_limits(1, "blas"):
            for batch in range(len(self._starts)):
                if search is None or _begins_anew(batch):
                    search = None
                    search = self._search_before(batch)
                yield self._told(batch, self._ask(search, batch))

    def _told(self, batch: int, found: np.ndarray) -> tuple[int, np.ndarray]:
        return self._starts[batch] + self._size(batch), found

    def _ask(self, search: PatchSearch | None, batch: int) -> np.ndarray:
        if search is None:
            return np.empty(0, CANDIDATE)
        patches, features = self._patches(batch), self._features(batch)
        cells = search.cells_of(patches)
        self._keep_cells(batch, batch, cells)
        search.add(patches, cells[:, 0])
        return search.candidates(range(self._starts[batch], self._starts[batch] + len(features)), features, cells)

    def _search_before(self, batch: int) -> PatchSearch | None:
        """The search with all images before a batch in it; None where no image so far has any patch."""
        key = self._digests[_cells_from(batch)]
        if kept := self._memory.get("graph", key):
            search = PatchSearch(graph_of(kept), len(self.names))
        else:
            drawn = [
                self._patches(k).sample(range(SEED + self._starts[k], SEED + self._starts[k] + self._size(k)))
                for k in range(_cells_from(batch) + 1)
            ]
            centres = np.concatenate(drawn)
            if not len(centres):
                return None
            search = PatchSearch(centres, len(self.names))
            self._memory.put("graph", key, graph_bytes(search.cells))
        for earlier in range(batch):
            patches = self._patches(earlier)
            search.add(patches, self._cells(search, batch, earlier, patches))
        return search

    def _patches(self, batch: int) -> Patches:
        """The patches of a batch, for which nobody reads its fingerprints again."""
        if kept := self._memory.get("patches", self._digests[batch]):
            return Patches.frombytes(kept, self._size(batch))
        patches = Patches.of(self._features(batch))
        self._memory.put("patches", self._digests[batch], patches.tobytes())
        return patches

    def _cells(self, search: PatchSearch, batch: int, of: int, patches: Patches) -> np.ndarray:
        """The cell each patch of an earlier batch lies in, among those that `batch` asks."""
        if (kept := self._memory.get("cells", self._cells_key(batch, of))) is not None:
            return np.frombuffer(kept, np.int32)
        cells = search.cells_of(patches)
        self._keep_cells(batch, of, cells)
        return cells[:, 0]

    def _keep_cells(self, batch: int, of: int, cells: np.ndarray) -> None:
        self._memory.put("cells", self._cells_key(batch, of), cells[:, 0].astype(np.int32).tobytes())

    def _cells_key(self, batch: int, of: int) -> bytes:
        return hashlib.sha256(self._digests[_cells_from(batch)] + self._digests[of]).digest()

    def _keep_for_the_next(self) -> None:
        """What an image that is put behind these would need: not what smaller searches needed."""
        last = len(self._starts) - 1
        if last >= 0:
            self._memory.keep("graph", self._digests[_cells_from(last)])
        for of in range(last + 1):
            self._memory.keep("patches", self._digests[of])
            self._memory.keep("cells", self._cells_key(last, of))

    def _compared(self, batch: int, candidates: np.ndarray) -> tuple[int, np.ndarray]:
        waiting: dict[tuple[int, int], bool] = {}
        for a, b, flipped, _ in candidates.tolist():
            if (b, a) not in waiting:
                waiting[a, b] = flipped
        prints, names = self._prints, self.names
        told = [(a, b, compare(prints[names[a]], prints[names[b]], flipped)) for (a, b), flipped in waiting.items()]
        scored = np.array(told, _PAIR)
        scored = scored[scored["score"] > 0]
        self._memory.put("pairs", self._digests[batch], scored.tobytes())
        return self._told(batch, scored)

    def _features(self, batch: int) -> list[LocalFeatures]:
        start = self._starts[batch]
        return [self._prints[name].features for name in self.names[start : start + AT_ONCE]]

    def _size(self, batch: int) -> int:
        return min(AT_ONCE, len(self.names) - self._starts[batch])


def _begins_anew(batch: int) -> bool:
    """Whether the cells are made anew for a batch: at each power of two."""
    return batch & (batch - 1) == 0


def _cells_from(batch: int) -> int:
    """The last batch whose images give a patch to a cell of the search that `batch` asks."""
    return (1 << (batch.bit_length() - 1)) - 1 if batch else 0


@cache
def _code() -> bytes:
    """What the result of a search depends on beside the images: this code, and the libraries below it."""
    names = ("alignment", "fingerprints", "local_features", "patch_search")
    return code_digest(__name__, *(f"derm_ml.images.{name}" for name in names))
