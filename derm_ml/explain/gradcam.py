"""Grad-CAM by its definition: hooks and gradients (Selvaraju et al. 2017, section 3).

The platform explains from the forward pass (`nets/classifier.py`); this slower form works for any network and
layer, and tests hold the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Record what `layer` puts out, as tensors that keep their gradient; the hook is gone afterwards."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def grad_cam(forward: Callable[[], Tensor], layer: nn.Module, label: int) -> Tensor:
    """Heatmaps (N, h, w) ≥ 0 of one label; `forward()` runs the network and returns logits (N, L)."""
    with torch.enable_grad(), recorded(layer) as outputs:
        forward()[:, label].sum().backward()
        (maps,) = outputs
        assert maps.grad is not None
        alpha = maps.grad.mean(dim=(2, 3), keepdim=True)
        return (alpha * maps).sum(dim=1).relu().detach()
