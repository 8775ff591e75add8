"""What a training run says while it goes on: one report an epoch, to whoever listens.

Dagster turns a report into an asset observation, MLflow into a metric step, the terminal into a line.

Whoever waits for images that are predicted somewhere below listens with `hearing(told)`; who predicts says
`say_predicted(16)`. What takes long before the first epoch says so in a sentence, `say_under_way(text)`, to who listens
with `reading(told)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One finished epoch.

    `epoch` counts from 1 to `epochs`; `metrics` are validation figures by name (e.g. `auc_mean` in 0..1);
    `seconds` is the wall time of the epoch; `images_per_second` the training throughput.
    """

    epoch: int
    epochs: int
    train_loss: float
    metrics: dict[str, float]
    learning_rate: float
    seconds: float
    images_per_second: float
    best: bool


OnEpoch = Callable[[EpochReport], None]


_heard: ContextVar[Callable[[int], None]] = ContextVar("who hears of predicted images", default=lambda _: None)


@contextmanager
def hearing(told: Callable[[int], None]) -> Iterator[None]:
    """Within the block, `told` hears how many images were predicted, each time some were."""
    before = _heard.set(told)
    try:
        yield
    finally:
        _heard.reset(before)


def say_predicted(images: int) -> None:
    """Tell whoever listens that so many images were predicted."""
    _heard.get()(images)


_read: ContextVar[Callable[[str], None]] = ContextVar("who reads how far something is", default=lambda _: None)


@contextmanager
def reading(told: Callable[[str], None]) -> Iterator[None]:
    """Within the block, `told` is given each sentence about how far something is."""
    before = _read.set(told)
    try:
        yield
    finally:
        _read.reset(before)


def say_under_way(text: str) -> None:
    """Tell whoever reads how far something is that takes long."""
    _read.get()(text)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def silent(_: EpochReport) -> None:
    """Listen to nothing."""
