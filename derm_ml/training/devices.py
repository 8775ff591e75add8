"""The devices one network is trained on: one process each, which Lightning Fabric joins.

fabric = opened(recipe.hardware, freezes=False)    in every process
mine = own_share(n); …; found = gathered(found, n)        each looks at its share of the validation images, all know all
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from derm_ml.ranks import LostProcessError, Rank, SeveralProcessesError, refuse_strangers, this_rank
from derm_ml.sentences import WrongValue
from derm_ml.training.settings import Hardware

# how gloo says that a process at the other end is gone; NCCL has classes of its own
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo")


def opened(hardware: Hardware, freezes: bool) -> Fabric:
    """Lightning Fabric on the devices of `hardware`, this process joined with the others a launcher started.

    `freezes`: whether parts of the network may stop learning for a while. Raises `SeveralProcessesError` where the
    launcher started another number of processes than `hardware` says, `WrongValue` for a device this machine lacks.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets in every process
    refuse_strangers()
    rank = this_rank()
    _check_processes(hardware, rank)
    _check_machine(hardware, rank)
    environment, strategy = LightningEnvironment(), "auto"
    if rank.world > 1:
        environment = TorchElasticEnvironment()
        # buffers need no broadcast: running statistics are those of the whole batch everywhere
        strategy = DDPStrategy(find_unused_parameters=freezes, forward_sync_buffers=False)
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=rank.local_world,
        num_nodes=rank.nodes,
        strategy=strategy,
        precision=fabric_precision(hardware),
        plugins=[environment],
    )
    fabric.launch()
    return fabric


def _check_processes(hardware: Hardware, rank: Rank) -> None:
    wanted = hardware.devices * hardware.nodes
    if rank.world == 1 and wanted > 1:
        raise SeveralProcessesError(
            f"{hardware.devices} devices on {hardware.nodes} machines are {wanted} processes, this is one: `derm fit` "
            "starts those of one machine, in Dagster DERM_TRAINER=subprocess does; torchrun starts those of several, "
            "in Dagster DERM_TRAINER=slurm does"
        )
    if wanted > 1 and (hardware.devices, hardware.nodes) != (rank.local_world, rank.nodes):
        raise SeveralProcessesError(
            f"the recipe wants {hardware.devices} devices on {hardware.nodes} machines, but {rank.local_world} "
            f"processes were started on each of {rank.nodes}: start as many, or leave devices and nodes at 1"
        )


def _check_machine(hardware: Hardware, rank: Rank) -> None:
    gpus = torch.cuda.device_count()
    kind = hardware.accelerator
    if kind == "cuda" and not gpus:
        raise WrongValue("hardware.accelerator is cuda, but torch finds no GPU here: use auto or cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise WrongValue("hardware.accelerator is mps, but this machine has no such device: use auto or cpu")
    if kind in ("auto", "cuda") and gpus and rank.local_world > gpus:
        raise WrongValue(f"hardware.devices is {rank.local_world}, but this machine has {gpus} GPUs: use as many")
    if not hardware.compile:
        return
    if rank.world > 1:
        raise WrongValue("hardware.compile is for one device: batch normalisation over several is not compiled")
    on_cpu = kind == "cpu" or (kind == "auto" and not gpus)
    if on_cpu and not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))):
        raise WrongValue("hardware.compile needs a C++ compiler on this machine's CPU: install g++, or set it to false")


def fabric_precision(hardware: Hardware) -> Any:
    """The precision Fabric uses for `hardware.precision`."""
    if hardware.precision != "auto":
        return hardware.precision
    if hardware.accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    # without instructions for it bf16 is emulated and slower than float32
    units = torch.cpu.get_capabilities()
    return "bf16-mixed" if units.get("amx_bf16") or units.get("avx512_bf16") else "32-true"


@contextmanager
def with_the_others() -> Iterator[None]:
    """Train inside: where another process is gone, the error says so."""
    try:
        yield
    except dist.DistError as error:
        raise LostProcessError(_lost()) from error
    except RuntimeError as error:
        if this_rank().world == 1 or not any(text in str(error) for text in _LOST):
            raise
        raise LostProcessError(_lost()) from error


def _lost() -> str:
    rank = this_rank()
    return (
        f"process {rank.number + 1} of {rank.world} lost the others: one of them ended; run it again to go on from "
        "the last checkpoint"
    )


def own_share(n: int) -> list[int]:
    """Which of 0 … n - 1 this process looks at: as many as every other does, so some of the first twice."""
    rank = this_rank()
    each = -(-n // rank.world)
    return [(rank.number + k * rank.world) % n for k in range(each)]


def agreed(figures: dict[str, float]) -> dict[str, float]:
    """The figures as the first process has them: the last digit of a sum may differ from machine to machine."""
    if this_rank().world == 1:
        return figures
    values = torch.tensor(list(figures.values()), dtype=torch.float64)
    sent = _for_sending(values)
    dist.broadcast(sent, 0)
    return dict(zip(figures, sent.tolist(), strict=True))


def summed(*values: float) -> list[float]:
    """Each value's sum over all processes."""
    if this_rank().world == 1:
        return list(values)
    sent = _for_sending(torch.tensor(values, dtype=torch.float64))
    dist.all_reduce(sent)
    return sent.tolist()


def gathered(mine: Tensor, n: int) -> Tensor:
    """What all processes found of their `own_share(n)`, (ceil(n / world), …) each → (n, …) in order, on this device."""
    world = this_rank().world
    if world == 1:
        return mine
    sent = _for_sending(mine.contiguous())
    parts = [torch.empty_like(sent) for _ in range(world)]
    dist.all_gather(parts, sent)
    return torch.stack(parts, dim=1).flatten(0, 1)[:n].to(mine.device)


def _for_sending(value: Tensor) -> Tensor:
    """Where the processes' library takes tensors from: NCCL from GPUs only."""
    return value.cuda() if dist.get_backend() == "nccl" else value
