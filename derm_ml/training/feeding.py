"""From shards to batches: decoding and augmentation in worker processes, order and randomness from the seed.

Each item is asked for by (epoch, index), so that the picture depends on those alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from derm_ml.data.ahead import Turns
from derm_ml.data.dataset import IN_TURN
from derm_ml.ranks import this_rank
from derm_ml.training.seeding import derived, generator

# (index, seed) → arrays of one sample, e.g. (image uint8, target float32, attributes float32). An instance of a class
# at the top of a module, never a closure: a process that was itself started by `spawn`, as every run Dagster launches,
# sends it to its workers, and only such objects can be sent.
LoadSample = Callable[[int, int], tuple[np.ndarray, ...]]
BATCHES_AHEAD = 4  # of each worker


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in the order of that epoch; with several devices, each takes its share of every batch.

    `weights` (N,) ≥ 0 or None: with weights, indices are drawn with replacement in proportion to them.
    `parts`: how many equal parts each device's share of a batch is worked through in.
    `turns`: of a streamed dataset; the order goes from shard to shard where it says so, `IN_TURN` at a time, and what
    comes next is fetched ahead.
    The incomplete last batch is dropped: batch normalisation on a few images is noise.
    """

    def __init__(
        self,
        n: int,
        batch: int,
        seed: int,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        turns: Turns | None = None,
    ):
        pieces = world * parts
        self.n, self.batch, self.seed, self.rank, self.world = n, min(batch, n - n % pieces), seed, rank, world
        self.part = self.batch // pieces  # images a device sees at once
        self.probabilities = None if weights is None else np.asarray(weights, float) / np.sum(weights)
        self.turns = turns
        self.epoch = 0
        self.queued = 0  # indices that workers have been given and not read yet, at most

    def order(self, epoch: int) -> np.ndarray:
        rng = generator(self.seed, "order", epoch)
        full = self.n - self.n % self.batch if self.batch else 0
        if self.probabilities is None:
            order = rng.permutation(self.n)[:full]
        else:
            order = rng.choice(self.n, size=full, p=self.probabilities)
        shard = self.turns.shard if self.turns else None
        return order if shard is None else self._by_shard(order, shard, epoch)

    def _by_shard(self, order: np.ndarray, shard: np.ndarray, epoch: int) -> np.ndarray:
        """The same indices: shards begin in random order, one after another, and each lends its images to the time in
        which `IN_TURN` begin, so that many shards are mixed at any time and each is read once."""
        rng = generator(self.seed, "shards", epoch)
        begins = rng.permutation(shard.max() + 1)[shard[order]]
        return order[np.argsort(begins + IN_TURN * rng.random(len(order)), kind="stable")]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order: Iterator[int] = iter(self._share(epoch).tolist())
        if self.turns:
            order = self.turns.following(self._share(epoch), self._share(epoch + 1), self.queued)
        for index in order:
            yield epoch, index

    def _share(self, epoch: int) -> np.ndarray:
        return self.order(epoch)[self.rank :: self.world]

    def __len__(self) -> int:
        return (self.n - self.n % self.batch) // self.world if self.batch else 0


class _Samples(Dataset):
    def __init__(self, load: LoadSample, seed: int) -> None:
        self.load, self.seed = load, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        epoch, index = key
        return tuple(torch.from_numpy(a) for a in self.load(index, derived(self.seed, "sample", epoch, index)))


def training_loader(
    load: LoadSample, sampler: EpochSampler, seed: int, workers: int, pin_memory: bool = False
) -> DataLoader:
    """Batches of one epoch after another; set `sampler.epoch` before each pass.

    `workers`: how many processes of its own prepare them, -1: as many as this process may have.
    """
    count = available_workers(workers)
    sampler.queued = count * BATCHES_AHEAD * sampler.part
    return DataLoader(
        _Samples(load, seed),
        batch_size=max(1, sampler.part),
        sampler=sampler,
        num_workers=count,
        drop_last=True,
        pin_memory=pin_memory,
        prefetch_factor=BATCHES_AHEAD if count else None,
        generator=torch.Generator(),  # the loader draws a number when workers start: not from the dropout's stream
        persistent_workers=count > 0,  # started once: the epoch comes with each key, no worker needs to be told
    )


def in_order(
    load: Callable[[int], tuple[np.ndarray, ...]], indexes: Sequence[int], batch: int
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Samples of those indexes in batches, what validation sees: prepared in threads, two batches ahead, never all at
    once."""
    with ThreadPoolExecutor(max(1, available_workers(-1))) as pool:
        waiting: deque[Future] = deque()
        for start in range(0, len(indexes) + 2 * batch, batch):
            waiting.extend(pool.submit(load, i) for i in indexes[start : start + batch])
            if start >= 2 * batch:
                samples = [waiting.popleft().result() for _ in range(min(batch, len(waiting)))]
                if samples:
                    yield tuple(torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True))


def available_workers(wanted: int) -> int:
    """`wanted`, or for -1 all cores but one (the one that computes), at most 16.

    Where several processes train on this machine, each has its share of the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, cores // this_rank().local_world)
    return min(cores - 1, 16) if wanted < 0 else wanted
