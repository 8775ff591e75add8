"""Train one network: the loop, read top to bottom.

    epoch: for each batch: rate → loss → backward → clip → step → average
           validate → best? → checkpoint (atomic) → report

A run that was killed goes on from its last finished epoch; on a CPU its weights are then bitwise the same as
those of a run that was never killed.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from derm_ml import DermError
from derm_ml.machine import memory_for
from derm_ml.model_folder import ModelFolder
from derm_ml.progress import EpochReport, OnEpoch
from derm_ml.records import DataError
from derm_ml.sentences import WrongValue
from derm_ml.training.batch_norm import over_all_devices
from derm_ml.training.checkpoint import load_checkpoint, previous_of, save_checkpoint
from derm_ml.training.devices import agreed, opened, summed, with_the_others
from derm_ml.training.ema import MovingAverage
from derm_ml.training.feeding import EpochSampler, LoadSample, training_loader
from derm_ml.training.optimisation import Schedule, optimizer_for
from derm_ml.training.seeding import derived
from derm_ml.training.settings import Optimiser, TrainingRecipe

Loss = Callable[[nn.Module, Sequence[Tensor]], Tensor]  # (network, batch) → mean loss of the batch
# network in evaluation mode → figures by name; one that is undefined is left out, NaN means a network gone wrong
Validate = Callable[[nn.Module], dict[str, float]]
_NAME_OF_ERROR = re.compile(r"^[\w.]+Error: ")


class TrainingError(DermError, RuntimeError):
    """Training cannot go on; the last good checkpoint is kept and nothing is promotable."""


@dataclass(frozen=True)
class Fitted:
    """The kept network (its weights, on the CPU), its epoch, and how training went."""

    state: dict[str, Tensor]
    history: list[EpochReport]
    epoch: int


def fit_network(
    network: nn.Module,
    load: LoadSample,
    n: int,
    loss: Loss,
    validate: Validate,
    score: str,
    recipe: TrainingRecipe,
    folder: Path,
    identity: str,
    on_epoch: OnEpoch,
    weights: Sequence[float] | None = None,
    before_epoch: Callable[[int], None] | None = None,
) -> Fitted:
    """Train `network` on `n` samples; `recipe.optimiser.keep` says whether the epoch with the
    highest `validate(...)[score]` becomes the model or the last.

    `load(index, seed)` gives the arrays of a sample; `weights` (n,) draws samples in proportion to them;
    `before_epoch(epoch)`, counted from 0, may freeze a part of the network.
    `folder/checkpoint.safetensors` holds the state of the last finished epoch of the run named `identity`.
    As one of several processes (`ranks.py`) each has a share of every batch and of the validation images; the first
    writes the checkpoint and calls `on_epoch`, all return the same network.
    Raises `TrainingError` when the loss or the validation is no longer finite, when no epoch has a defined score, or
    when too few images make no batch; `OutOfMemoryError` and `WriteError` where the machine has no room.
    """
    settings, hardware, parts = recipe.optimiser, recipe.hardware, recipe.hardware.accumulate
    with with_the_others():
        fabric = opened(hardware, freezes=before_epoch is not None)
    rank, world = fabric.global_rank, fabric.world_size
    sampler = EpochSampler(n, settings.batch_size, recipe.seed, weights, rank, world, parts)
    _check_batches(sampler, settings.batch_size, parts)
    on_gpu = fabric.device.type == "cuda"
    loader = training_loader(load, sampler, recipe.seed, hardware.workers, pin_memory=on_gpu)
    inner = network.to(fabric.device)
    average = MovingAverage(inner, settings.ema) if settings.ema else None
    trained: Any = torch.compile(inner) if hardware.compile else inner
    model, optimizer = fabric.setup(trained, optimizer_for(inner, settings))
    loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    steps = len(loader) // parts
    schedule = Schedule(optimizer, settings, steps)

    path = ModelFolder(folder).checkpoint
    progress = _Progress(history=[], best=-math.inf, kept_epoch=0, kept_state={})
    with with_the_others(), fabric.rank_zero_first():  # the first may put another in place of a damaged one
        saved = load_checkpoint(path, identity)
    if saved:
        _restore(saved, inner, average, optimizer, schedule, progress)

    for epoch in range(len(progress.history), settings.epochs):
        torch.manual_seed(derived(recipe.seed, "epoch", epoch, *([rank] if rank else [])))  # dropout
        sampler.epoch = epoch
        started = time.perf_counter()
        total, images, rate = 0.0, 0, 0.0
        model.train()
        if before_epoch:
            before_epoch(epoch)
        with _explained(epoch, settings, path):
            for number, batch in enumerate(loader):
                step, part = divmod(number, parts)
                if part == 0:
                    rate = schedule.before_step(epoch * steps + step)
                    optimizer.zero_grad(set_to_none=True)
                last = part == parts - 1
                with fabric.no_backward_sync(model, enabled=not last), over_all_devices(world):
                    batch_loss = loss(model, batch)
                    fabric.backward(batch_loss / parts)
                if last:
                    if settings.gradient_clip:
                        most = settings.gradient_clip
                        fabric.clip_gradients(model, optimizer, max_norm=most, error_if_nonfinite=False)
                    optimizer.step()
                    if average:
                        average.update(inner)
                value = batch_loss.item()
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss became {value} in epoch {epoch + 1}: {_stable(settings, epoch, path)}"
                    )
                total += value * len(batch[0])
                images += len(batch[0])
            seconds = time.perf_counter() - started

            candidate = average.network if average else inner
            candidate.eval()
            with torch.no_grad(), fabric.autocast():
                found = agreed(validate(candidate))
            total, images = summed(total, images)
        broken = [name for name, value in found.items() if math.isnan(value)]
        if broken:
            raise TrainingError(
                f"{', '.join(broken)} of the validation split became nan in epoch {epoch + 1}: the network no longer "
                f"gives numbers; {_stable(settings, epoch, path)}"
            )
        metrics = {name: value for name, value in found.items() if math.isfinite(value)}
        improved = progress.take(epoch + 1, metrics.get(score, -math.inf), candidate, settings.keep == "last")
        schedule.after_epoch(improved)
        report = EpochReport(
            epoch + 1,
            settings.epochs,
            total / images,
            metrics,
            rate,
            seconds,
            images / seconds,
            improved,
        )
        progress.history.append(report)
        if rank == 0:
            save_checkpoint(path, _state(identity, inner, average, optimizer, schedule, progress))
            on_epoch(report)
    if not progress.kept_state:
        raise TrainingError(
            f"the validation split gave no {score} in any of {len(progress.history)} epochs, so none of them is the "
            "best: add validation images, or train with keep=last"
        )
    if rank == 0:
        previous_of(path).unlink(missing_ok=True)  # the last one is whole, and from now on only read
    return Fitted(progress.kept_state, progress.history, progress.kept_epoch)


def _check_batches(sampler: EpochSampler, batch_size: int, parts: int) -> None:
    pieces = sampler.world * parts
    if batch_size % pieces:
        raise WrongValue(
            f"batch_size {batch_size} cannot be dealt out evenly to {sampler.world} devices in {parts} parts each: "
            f"make it a multiple of {pieces}"
        )
    if len(sampler) == 0:
        few = f"{sampler.n} images, fewer than devices and parts of a batch ({pieces})"
        raise TrainingError(f"the training split has {few if sampler.n else 'no images'}")


@contextmanager
def _explained(epoch: int, settings: Optimiser, path: Path) -> Iterator[None]:
    """One epoch inside: where memory ends, or an image cannot be read by a worker, the error says what to do."""
    smaller = f"use a batch_size below {settings.batch_size}, a smaller side or fewer workers. {_kept(epoch, path)}"
    with with_the_others(), memory_for(f"epoch {epoch + 1}", smaller):
        try:
            yield
        except (DataError, OSError) as error:
            # a worker's error comes with its whole traceback as its text, the error's own last
            said = _NAME_OF_ERROR.sub("", str(error).strip().splitlines()[-1])
            raise TrainingError(f"{said}. {_kept(epoch, path)}") from error


def _stable(settings: Optimiser, epoch: int, path: Path) -> str:
    """What to do about a training that left the finite numbers."""
    return f"lower the learning rate ({settings.learning_rate:g}) or use precision=32-true. {_kept(epoch, path)}"


def _kept(epoch: int, path: Path) -> str:
    return f"The last good epoch ({epoch}) is kept in {path}." if epoch else "No epoch was finished, nothing is kept."


@dataclass
class _Progress:
    history: list[EpochReport]
    best: float
    kept_epoch: int
    kept_state: dict[str, Tensor]  # of the kept epoch

    def take(self, epoch: int, score: float, network: nn.Module, always: bool) -> bool:
        """Remember the network if it is the best so far; one whose score is undefined (-inf) never is."""
        improved = score > self.best
        if improved or always:
            self.kept_epoch = epoch
            self.kept_state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        if improved:
            self.best = score
        return improved


def _state(
    identity: str,
    network: nn.Module,
    average: MovingAverage | None,
    optimizer: Any,
    schedule: Schedule,
    progress: _Progress,
) -> dict[str, Any]:
    return {
        "identity": identity,
        "network": network.state_dict(),
        "average": average.network.state_dict() if average else {},
        "average_steps": average.steps if average else 0,
        "optimizer": optimizer.state_dict(),
        "schedule": {"factor": schedule.factor, "waited": schedule.waited},
        "best": progress.best if math.isfinite(progress.best) else None,
        "kept_epoch": progress.kept_epoch,
        "kept_state": progress.kept_state,
        "history": [asdict(report) for report in progress.history],
    }


def _restore(
    saved: dict[str, Any],
    network: nn.Module,
    average: MovingAverage | None,
    optimizer: Any,
    schedule: Schedule,
    progress: _Progress,
) -> None:
    network.load_state_dict(saved["network"])
    if average:
        average.network.load_state_dict(saved["average"])
        average.steps = saved["average_steps"]
    optimizer.load_state_dict(saved["optimizer"])
    schedule.factor, schedule.waited = saved["schedule"]["factor"], saved["schedule"]["waited"]
    progress.best = -math.inf if saved["best"] is None else saved["best"]
    progress.kept_epoch, progress.kept_state = saved["kept_epoch"], saved["kept_state"]
    progress.history = [EpochReport(**report) for report in saved["history"]]
