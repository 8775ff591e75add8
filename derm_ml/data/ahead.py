"""What a training is about to read of a streamed dataset, fetched while it computes.

    turns = Turns(shard, block, fetch, lent=500, room=1)
    for index in turns.following(order, then, queued=64): …       what is read 500 places later is on its way

Threads of the process that knows the order fetch into the cache that its workers read from. What fails here fails again
where it is read, with the name of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

_AT_ONCE = 4  # blocks of 8 MiB on their way


@dataclass(frozen=True, eq=False)
class Turns:
    """How a training reads N rows of a streamed dataset.

    `shard` (N,) int of each row, where shards are read one after another; None where any order will do.
    `block` (N,) int: the block the row's file begins in, counted over all shards; -1 for one that is not fetched whole.
    `fetch(index)` brings the block of a row into the cache. `lent`: how many rows pass between the beginnings of two
    shards; `room`: how many shards the cache holds beside those that are read at a time.
    """

    shard: np.ndarray | None
    block: np.ndarray
    fetch: Callable[[int], None]
    lent: int
    room: int

    def ahead(self, queued: int) -> int:
        """How many places ahead is fetched, so that a block comes about a shard's time before it is read; 0 where the
        cache has no room for what would lie there unread. An index is read `queued` places after it was asked for."""
        return max(1, self.lent - queued) if self.room * self.lent >= max(self.lent, queued) else 0

    def following(self, order: np.ndarray, then: np.ndarray, queued: int) -> Iterator[int]:
        """The indices of `order`, one after another; of `then`, which comes after, the beginning is fetched too."""
        ahead = self.ahead(queued)
        if not ahead:
            yield from order.tolist()
            return
        coming = np.concatenate([order, then[:ahead]])
        asked: set[int] = set()
        reached = 0
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch-ahead")
        try:
            for place, index in enumerate(order.tolist()):
                for next_one in coming[reached : place + ahead + 1].tolist():
                    if self.block[next_one] >= 0 and self.block[next_one] not in asked:
                        asked.add(int(self.block[next_one]))
                        pool.submit(self.fetch, next_one)
                reached = place + ahead + 1
                yield index
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # no thread lives where the next workers are started
