"""A network that learns, with all that changes it: devices, optimizer, schedule, average; one epoch of steps.

step: rate → loss (in parts, where memory holds no whole batch) → backward → clip → step → average
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from derm_ml.training.batch_norm import over_all_devices
from derm_ml.training.ema import MovingAverage
from derm_ml.training.optimisation import Schedule, optimizer_for
from derm_ml.training.settings import TrainingRecipe

Loss = Callable[[nn.Module, Sequence[Tensor]], Tensor]  # (network, batch) → mean loss of the batch


class NoNumberError(ArithmeticError):
    """The loss of a batch is infinite or not a number."""


@dataclass
class Learner:
    """`inner` is the network itself, `model` the same as Fabric calls it; `steps` in an epoch."""

    fabric: Fabric
    model: Any
    inner: nn.Module
    average: MovingAverage | None
    optimizer: Any
    schedule: Schedule
    steps: int
    parts: int
    largest_gradient: float

    @classmethod
    def of(cls, network: nn.Module, fabric: Fabric, recipe: TrainingRecipe, batches: int) -> Learner:
        """On the devices of `fabric`, for epochs of that many batches, parts of them counted each."""
        settings, hardware = recipe.optimiser, recipe.hardware
        inner = network.to(fabric.device)
        average = MovingAverage(inner, settings.ema) if settings.ema else None
        called: Any = torch.compile(inner) if hardware.compile else inner
        model, optimizer = fabric.setup(called, optimizer_for(inner, settings))
        steps = batches // hardware.accumulate
        schedule = Schedule(optimizer, settings, steps)
        return cls(
            fabric, model, inner, average, optimizer, schedule, steps, hardware.accumulate, settings.gradient_clip
        )

    @property
    def candidate(self) -> nn.Module:
        """The network that may become the model: the average where there is one."""
        return self.average.network if self.average else self.inner

    def learn(self, batches: Iterable[Sequence[Tensor]], epoch: int, loss: Loss) -> tuple[float, int, float]:
        """One epoch, counted from 0. Returns the sum of the images' losses, their number, and the last rate.

        Raises `NoNumberError` for a loss that is no longer finite.
        """
        total, images, rate = 0.0, 0, 0.0
        self.model.train()
        for number, batch in enumerate(batches):
            step, part = divmod(number, self.parts)
            if part == 0:
                rate = self.schedule.before_step(epoch * self.steps + step)
                self.optimizer.zero_grad(set_to_none=True)
            value = self._part(batch, loss, last=part == self.parts - 1)
            if not math.isfinite(value):
                raise NoNumberError(str(value))
            total += value * len(batch[0])
            images += len(batch[0])
        return total, images, rate

    def _part(self, batch: Sequence[Tensor], loss: Loss, last: bool) -> float:
        """Learn from one part of a batch; after the last one the weights change."""
        waiting = self.fabric.no_backward_sync(self.model, enabled=not last)
        with waiting, over_all_devices(self.fabric.world_size):
            found = loss(self.model, batch)
            self.fabric.backward(found / self.parts)
        if last:
            if self.largest_gradient:
                self.fabric.clip_gradients(
                    self.model, self.optimizer, max_norm=self.largest_gradient, error_if_nonfinite=False
                )
            self.optimizer.step()
            if self.average:
                self.average.update(self.inner)
        return found.item()

    def state(self) -> dict[str, Any]:
        """What goes on from here needs, as tensors and JSON values."""
        return {
            "network": self.inner.state_dict(),
            "average": self.average.network.state_dict() if self.average else {},
            "average_steps": self.average.steps if self.average else 0,
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"factor": self.schedule.factor, "waited": self.schedule.waited},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.inner.load_state_dict(saved["network"])
        if self.average:
            self.average.network.load_state_dict(saved["average"])
            self.average.steps = saved["average_steps"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.factor, self.schedule.waited = saved["schedule"]["factor"], saved["schedule"]["waited"]
