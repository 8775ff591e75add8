"""Exponential moving average of a network's weights: a steadier network than the last step's."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """Averages parameters and floating buffers; integer buffers are copied.

    The decay grows with the number of steps, min(decay, (1 + n) / (10 + n)), so that a short run is not held
    back by its random start (the rule TensorFlow's ExponentialMovingAverage documents for `num_updates`).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        mine, theirs = self.network.state_dict(), network.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        for name in floating:
            mine[name].lerp_(theirs[name].to(mine[name]), 1 - decay)
        for name in mine.keys() - set(floating):
            mine[name].copy_(theirs[name])
