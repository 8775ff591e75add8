"""Training from the shards against a bare forward/backward loop on random tensors of the same shape.

    python benchmarks/training_throughput.py                                   # drawn pictures, MobileNetV2, 192 px
    python benchmarks/training_throughput.py --backbone resnet50 --side 224 --batch 128 --data data/prepared/…
    python benchmarks/training_throughput.py --task lesion_segmentation --side 256 --batch 16
    python benchmarks/training_throughput.py --task lesion_segmentation --backbone improved_unet --side 128 --batch 4

Both run in this process by turns, so that a busy machine slows both; the ratio of the medians is what counts.
The memory line shows that the resident size does not grow with the number of images.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.losses.classification import softmax_loss
from derm_ml.registry import get_task
from derm_ml.training import classification, classifier_samples, segmentation
from derm_ml.training.devices import fabric_precision
from derm_ml.training.ema import MovingAverage
from derm_ml.training.feeding import LoadSample
from derm_ml.training.loop import fit_network
from derm_ml.training.optimisation import optimizer_for
from derm_ml.training.settings import (
    ClassifierImage,
    ClassifierRecipe,
    Network,
    Networks,
    Optimiser,
    SegmenterImage,
    SegmenterRecipe,
    TrainingRecipe,
)


@dataclass(frozen=True)
class Subject:
    """What is trained: a recipe, its network and loss, its samples, and one batch of random tensors like theirs."""

    recipe: TrainingRecipe
    network: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Sequence[Tensor]], Tensor]
    samples: Callable[[Dataset], LoadSample]
    batch: Sequence[Tensor]


def classifier(backbone: str, side: int, batch: int) -> Subject:
    recipe = ClassifierRecipe(
        network=Network(backbone=backbone, pretrained="none"),
        image=ClassifierImage(side=side),
        optimiser=Optimiser(batch_size=batch, ema=0.998),
    )
    return Subject(
        recipe,
        lambda: classification.build_classifier(recipe, 3),
        lambda model, given: softmax_loss(model(given[0]).float(), given[1]),
        lambda dataset: classifier_samples.training_samples(
            dataset, dataset.split("train"), recipe.image, recipe.patient
        ),
        (_noise(batch, side, 3), torch.eye(3)[torch.randint(3, (batch,))]),
    )


def segmenter(backbone: str, side: int, batch: int) -> Subject:
    """`backbone` may be `improved_unet`, which has none."""
    networks = ("improved_unet" if backbone == "improved_unet" else "unet",)
    recipe = SegmenterRecipe(
        network=Networks(networks=networks, backbone=backbone, pretrained="none"),
        image=SegmenterImage(side=side),
        optimiser=Optimiser(batch_size=batch, ema=0.998),
    )
    return Subject(
        recipe,
        lambda: segmentation.build_segmenter(recipe.network),
        segmentation.segmentation_loss(recipe.loss),
        lambda dataset: segmentation.training_samples(dataset, dataset.split("train"), recipe.image),
        (_noise(batch, side, 3), _noise(batch, side)),
    )


SUBJECTS = {"lesion_classification": classifier, "lesion_segmentation": segmenter}


def _noise(batch: int, side: int, *channels: int) -> Tensor:
    return torch.randint(0, 255, (batch, side, side, *channels), dtype=torch.uint8)


def bare(subject: Subject, steps: int) -> float:
    """Images per second of forward, loss, backward, clip, step and moving average on tensors already on the device."""
    recipe = subject.recipe
    fabric = Fabric(accelerator="auto", devices=1, precision=fabric_precision(recipe.hardware))
    network = subject.network().to(fabric.device)
    average = MovingAverage(network, recipe.optimiser.ema)
    model, optimizer = fabric.setup(network, optimizer_for(network, recipe.optimiser))
    batch = [tensor.to(fabric.device) for tensor in subject.batch]
    model.train()
    started = 0.0
    for step in range(steps + 3):
        if step == 3:  # the first steps choose kernels and allocate
            _wait()
            started = time.perf_counter()
        loss = subject.loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        average.update(network)
    _wait()
    return steps * recipe.optimiser.batch_size / (time.perf_counter() - started)


def from_shards(subject: Subject, dataset: Dataset, epochs: int) -> float:
    """Images per second of the training loop as `derm fit` runs it, the first epoch left out."""
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        fit_network(
            subject.network(),
            subject.samples(dataset),
            len(dataset.split("train")),
            subject.loss,
            lambda _network: {"none": 0.0},
            "none",
            subject.recipe.but(epochs=epochs + 1),
            Path(folder),
            "benchmark",
            lambda report: speeds.append(report.images_per_second),
        )
    return statistics.median(speeds[1:])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="lesion_classification", choices=list(SUBJECTS))
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=800, help="how many pictures to draw")
    parser.add_argument("--workers", type=int, default=-1, help="processes that prepare samples; -1: as `derm fit`")
    parser.add_argument("--data", type=Path, help="a prepared dataset of the task instead")
    options = parser.parse_args()
    task = get_task(options.task)
    subject = SUBJECTS[task.name](options.backbone, options.side, options.batch)
    subject = replace(subject, recipe=subject.recipe.but(workers=options.workers))
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            dataset = Dataset.open(options.data)
        else:
            task.draw(Path(folder) / "raw", options.images)
            dataset = prepare(task, Path(folder) / "raw", task.settings(), Path(folder) / "prepared")
        images = len(dataset.split("train"))
        pairs = []
        for number in range(options.rounds):
            pairs.append((bare(subject, max(8, images // options.batch)), from_shards(subject, dataset, 1)))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            free, fed = pairs[-1]
            print(f"round {number + 1}: bare {free:.1f} img/s, from shards {fed:.1f} img/s, peak {peak:.2f} GiB")
    random_speed, shard_speed = (statistics.median(side) for side in zip(*pairs, strict=True))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    what = f"{task.name} {options.backbone} {options.side} px batch {options.batch}"
    print(
        f"{what} on {device}, {fabric_precision(subject.recipe.hardware)}, {images} images: "
        f"{shard_speed:.1f} of {random_speed:.1f} img/s, ratio {shard_speed / random_speed:.3f}"
    )


if __name__ == "__main__":
    main()
