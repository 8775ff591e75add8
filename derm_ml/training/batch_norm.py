"""Batch normalisation over the images of all devices, so that several devices train the network that one would.

torch's own `SyncBatchNorm` replaces modules and needs GPUs. Here the function itself is exchanged while the block
lasts, whichever module calls it (timm has modules of its own): the network, its weights and its graph stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def over_all_devices(world: int) -> Iterator[None]:
    """Within the block batch normalisation in training takes mean and variance of the batches of all `world` processes.

    All of them must run the same network on batches of one size.
    """
    if world == 1:
        yield
        return
    with _Exchanged():
        yield


class _Exchanged(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        called = _normalised if func is functional.batch_norm else func
        return called(*args, **(kwargs or {}))


def _normalised(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `torch.nn.functional.batch_norm` gives on one device for the batches of all; x (N, C, …)."""
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
    centred = x.float()
    mean = _mean_of_all(centred.mean(dims))
    centred = centred - mean.view(shape)
    variance = _mean_of_all(centred.square().mean(dims))
    if running_mean is not None and running_var is not None:
        count = dist.get_world_size() * x.numel() / x.shape[1]
        running_mean.lerp_(mean.detach().to(running_mean), momentum)
        running_var.lerp_((variance.detach() * count / max(1.0, count - 1)).to(running_var), momentum)
    result = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        result = result * weight.view(shape)
    if bias is not None:
        result = result + bias.view(shape)
    return result.to(x.dtype)


def _mean_of_all(value: Tensor) -> Tensor:
    total: Any = _Sum.apply(value)
    return total / dist.get_world_size()


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _summed(grads[0])


def _summed(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total
