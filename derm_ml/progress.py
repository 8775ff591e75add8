"""What a training run says while it goes on: one report an epoch, to whoever listens.

Dagster turns a report into an asset observation, MLflow into a metric step, the terminal into a line.
"""

from __future__ import annotations

from collections.abc import Callable
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


def silent(_: EpochReport) -> None:
    """Listen to nothing."""
