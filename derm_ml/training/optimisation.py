"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math

import torch
from torch import nn

from derm_ml.training.settings import Optimiser

PLATEAU_PATIENCE, PLATEAU_FACTOR = 2, 0.1  # epochs without improvement before the rate is divided by ten


def optimizer_for(network: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters. Biases and normalisation weights (1-d) are not decayed."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate)


class Schedule:
    """Sets the learning rate before every step: linear warm-up, then cosine, plateau or constant.

    All its state is two numbers, so that it resumes exactly.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: Optimiser, steps_per_epoch: int) -> None:
        self.optimizer, self.settings, self.steps_per_epoch = optimizer, settings, steps_per_epoch
        self.factor = 1.0  # what the plateau schedule has come down to
        self.waited = 0

    def rate(self, step: int) -> float:
        """Learning rate at optimisation step `step`, counted from 0 over all epochs."""
        warmup = round(self.settings.warmup_epochs * self.steps_per_epoch)
        if step < warmup:
            return self.settings.learning_rate * (step + 1) / warmup
        if self.settings.schedule == "cosine":
            total = self.settings.epochs * self.steps_per_epoch
            done = (step - warmup) / max(1, total - warmup)
            return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.settings.learning_rate * self.factor

    def before_step(self, step: int) -> float:
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def after_epoch(self, improved: bool) -> None:
        """Tell the plateau schedule how the epoch went."""
        if self.settings.schedule != "plateau":
            return
        self.waited = 0 if improved else self.waited + 1
        if self.waited > PLATEAU_PATIENCE:
            self.factor *= PLATEAU_FACTOR
            self.waited = 0
