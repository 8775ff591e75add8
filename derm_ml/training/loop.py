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
from lightning_fabric import Fabric
from torch import Tensor, nn

from derm_ml import DermError
from derm_ml.data.ahead import Turns
from derm_ml.machine import memory_for
from derm_ml.model_folder import ModelFolder
from derm_ml.progress import EpochReport, OnEpoch
from derm_ml.records import DataError
from derm_ml.sentences import WrongValue
from derm_ml.training.checkpoint import CheckpointWriter, load_checkpoint, previous_of
from derm_ml.training.devices import agreed, opened, summed, with_the_others
from derm_ml.training.feeding import EpochSampler, LoadSample, training_loader
from derm_ml.training.learner import Learner, Loss, NoNumberError
from derm_ml.training.seeding import derived
from derm_ml.training.settings import Optimiser, TrainingRecipe

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
    turns: Turns | None = None,
) -> Fitted:
    """Train `network` on `n` samples; `recipe.optimiser.keep` says whether the epoch with the
    highest `validate(...)[score]` becomes the model or the last.

    `load(index, seed)` gives the arrays of a sample; `weights` (n,) draws samples in proportion to them;
    `before_epoch(epoch)`, counted from 0, may freeze a part of the network; `turns` are those of a streamed dataset: a
    training that was read from shard to shard must go on so.
    `folder/checkpoint.safetensors` holds the state of the last finished epoch of the run named `identity`.
    As one of several processes (`ranks.py`) each has a share of every batch and of the validation images; the first
    writes the checkpoint and calls `on_epoch`, all return the same network.
    Raises `TrainingError` when the loss or the validation is no longer finite, when no epoch has a defined score, or
    when too few images make no batch; `OutOfMemoryError` and `WriteError` where the machine has no room.
    """
    settings = recipe.optimiser
    with with_the_others():
        fabric = opened(recipe.hardware, freezes=before_epoch is not None)
    loader, sampler = _batches(fabric, load, n, recipe, weights, turns)
    learner = Learner.of(network, fabric, recipe, len(loader))
    path = ModelFolder(folder).checkpoint
    identity += "" if turns is None or turns.shard is None else ", read by shard"
    with with_the_others(), fabric.rank_zero_first():  # the first may put another in place of a damaged one
        saved = load_checkpoint(path, identity)
    progress = _Progress(history=[], best=-math.inf, kept_epoch=0, kept_state={})
    if saved:
        learner.restore(saved)
        progress.restore(saved, learner.candidate)

    others = [fabric.global_rank] if fabric.global_rank else []  # each device drops out features of its own images
    with CheckpointWriter(path) as writer:
        for epoch in range(len(progress.history), settings.epochs):
            torch.manual_seed(derived(recipe.seed, "epoch", epoch, *others))  # dropout
            sampler.epoch = epoch
            if before_epoch:
                before_epoch(epoch)
            started = time.perf_counter()
            with _explained(epoch, settings, writer):
                total, images, rate = learner.learn(loader, epoch, loss)
                seconds = time.perf_counter() - started
                found = _validated(learner, validate)
                total, images = summed(total, images)
            metrics = _numbers(found, epoch, settings, writer)
            improved = progress.take(
                epoch + 1, metrics.get(score, -math.inf), learner.candidate, settings.keep == "last"
            )
            learner.schedule.after_epoch(improved)
            report = EpochReport(
                epoch + 1, settings.epochs, total / images, metrics, rate, seconds, images / seconds, improved
            )
            progress.history.append(report)
            if fabric.global_rank == 0:
                writer.save({"identity": identity, **learner.state(), **progress.state()})
                on_epoch(report)
    if not progress.kept_state:
        raise TrainingError(
            f"the validation split gave no {score} in any of {len(progress.history)} epochs, so none of them is the "
            "best: add validation images, or train with keep=last"
        )
    if fabric.global_rank == 0:
        previous_of(path).unlink(missing_ok=True)  # the last one is whole, and from now on only read
    return Fitted(progress.kept_state, progress.history, progress.kept_epoch)


def _batches(
    fabric: Fabric,
    load: LoadSample,
    n: int,
    recipe: TrainingRecipe,
    weights: Sequence[float] | None,
    turns: Turns | None,
) -> tuple[Any, EpochSampler]:
    """This device's batches, parts of them where the recipe wants parts, and what sets their epoch."""
    hardware, size = recipe.hardware, recipe.optimiser.batch_size
    ranks = fabric.global_rank, fabric.world_size
    sampler = EpochSampler(n, size, recipe.seed, weights, *ranks, hardware.accumulate, turns)
    _check_batches(sampler, size, hardware.accumulate)
    on_gpu = fabric.device.type == "cuda"
    loader = training_loader(load, sampler, recipe.seed, hardware.workers, pin_memory=on_gpu)
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False), sampler


def _validated(learner: Learner, validate: Validate) -> dict[str, float]:
    candidate = learner.candidate
    candidate.eval()
    with torch.no_grad(), learner.fabric.autocast():
        return agreed(validate(candidate))


def _numbers(found: dict[str, float], epoch: int, settings: Optimiser, writer: CheckpointWriter) -> dict[str, float]:
    """The figures that are defined. Raises `TrainingError` where one is NaN."""
    broken = [name for name, value in found.items() if math.isnan(value)]
    if broken:
        raise TrainingError(
            f"{', '.join(broken)} of the validation split became nan in epoch {epoch + 1}: the network no longer "
            f"gives numbers; {_stable(settings, epoch, writer)}"
        )
    return {name: value for name, value in found.items() if math.isfinite(value)}


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
def _explained(epoch: int, settings: Optimiser, writer: CheckpointWriter) -> Iterator[None]:
    """One epoch inside: where memory ends, or an image cannot be read by a worker, the error says what to do."""
    smaller = f"use a batch_size below {settings.batch_size}, a smaller side or fewer workers. {_kept(epoch, writer)}"
    with with_the_others(), memory_for(f"epoch {epoch + 1}", smaller):
        try:
            yield
        except NoNumberError as error:
            stable = _stable(settings, epoch, writer)
            raise TrainingError(f"the loss became {error} in epoch {epoch + 1}: {stable}") from None
        except (DataError, OSError) as error:
            # a worker's error comes with its whole traceback as its text, the error's own last
            said = _NAME_OF_ERROR.sub("", str(error).strip().splitlines()[-1])
            raise TrainingError(f"{said}. {_kept(epoch, writer)}") from error


def _stable(settings: Optimiser, epoch: int, writer: CheckpointWriter) -> str:
    """What to do about a training that left the finite numbers."""
    return f"lower the learning rate ({settings.learning_rate:g}) or use precision=32-true. {_kept(epoch, writer)}"


def _kept(epoch: int, writer: CheckpointWriter) -> str:
    if not epoch:
        return "No epoch was finished, nothing is kept."
    return f"The last good epoch ({epoch}) is kept in {writer.path}."


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
            self.kept_state = _on_cpu(network)
        if improved:
            self.best = score
        return improved

    def state(self) -> dict[str, Any]:
        """What goes on from here needs. A kept network that is the last epoch's stands in the checkpoint already."""
        return {
            "best": self.best if math.isfinite(self.best) else None,
            "kept_epoch": self.kept_epoch,
            "kept_state": {} if self.kept_epoch == len(self.history) else self.kept_state,
            "history": [asdict(report) for report in self.history],
        }

    def restore(self, saved: dict[str, Any], candidate: nn.Module) -> None:
        """Go on from what `state` gave; `candidate`: the restored network that might have been kept."""
        self.best = -math.inf if saved["best"] is None else saved["best"]
        self.kept_epoch, self.kept_state = saved["kept_epoch"], saved["kept_state"]
        self.history = [EpochReport(**report) for report in saved["history"]]
        if self.kept_epoch == len(self.history) and not self.kept_state:
            self.kept_state = _on_cpu(candidate)


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
