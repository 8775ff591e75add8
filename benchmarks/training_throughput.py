"""Training from the shards against a bare forward/backward loop on random tensors of the same shape.

    python benchmarks/training_throughput.py                                   # drawn pictures, MobileNetV2, 192 px
    python benchmarks/training_throughput.py --backbone resnet50 --side 224 --batch 128 --data data/prepared/…

Both run in this process by turns, so that a busy machine slows both; the ratio of the medians is what counts.
The memory line shows that the resident size does not grow with the number of images.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from derm_ml.dataset import Dataset, prepare
from derm_ml.losses.classification import softmax_loss
from derm_ml.nets.classifier import Classifier
from derm_ml.registry import get_task
from derm_ml.training.classification import training_samples
from derm_ml.training.ema import MovingAverage
from derm_ml.training.loop import fit_network, precision
from derm_ml.training.optimisation import optimizer_for
from derm_ml.training.settings import ClassifierRecipe


def bare(recipe: ClassifierRecipe, steps: int) -> float:
    """Images per second of forward, loss, backward, clip, step and moving average on tensors already on the device."""
    fabric = Fabric(accelerator="auto", devices=1, precision=precision(recipe))
    network = Classifier(recipe.backbone, 3, "none", dropout=recipe.dropout).to(memory_format=torch.channels_last)
    network = network.to(fabric.device)
    average = MovingAverage(network, recipe.ema)
    model, optimizer = fabric.setup(network, optimizer_for(network, recipe))
    images = torch.randint(
        0, 255, (recipe.batch_size, recipe.side, recipe.side, 3), dtype=torch.uint8, device=fabric.device
    )
    targets = torch.eye(3, device=fabric.device)[torch.randint(3, (recipe.batch_size,), device=fabric.device)]
    model.train()
    started = 0.0
    for step in range(steps + 3):
        if step == 3:  # the first steps choose kernels and allocate
            _wait()
            started = time.perf_counter()
        loss = softmax_loss(model(images).float(), targets)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        average.update(network)
    _wait()
    return steps * recipe.batch_size / (time.perf_counter() - started)


def from_shards(recipe: ClassifierRecipe, dataset: Dataset, epochs: int) -> float:
    """Images per second of the training loop as `derm fit` runs it, the first epoch left out."""
    rows = dataset.split("train")
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        fit_network(
            Classifier(recipe.backbone, 3, "none", dropout=recipe.dropout).to(memory_format=torch.channels_last),
            training_samples(dataset, rows, recipe),
            len(rows),
            lambda model, batch: softmax_loss(model(batch[0]).float(), batch[1]),
            lambda _network: {"none": 0.0},
            "none",
            recipe.model_copy(update={"epochs": epochs + 1}),
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
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=800, help="how many pictures to draw")
    parser.add_argument("--data", type=Path, help="a prepared lesion_classification dataset instead")
    options = parser.parse_args()
    task = get_task("lesion_classification")
    recipe = ClassifierRecipe(
        backbone=options.backbone, side=options.side, batch_size=options.batch, pretrained="none", ema=0.998
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            dataset = Dataset.open(options.data)
        else:
            task.draw(Path(folder) / "raw", options.images)
            dataset = prepare(task, Path(folder) / "raw", task.settings(), Path(folder) / "prepared")
        images = len(dataset.split("train"))
        pairs = []
        for number in range(options.rounds):
            pairs.append((bare(recipe, max(8, images // options.batch)), from_shards(recipe, dataset, 1)))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            free, fed = pairs[-1]
            print(f"round {number + 1}: bare {free:.1f} img/s, from shards {fed:.1f} img/s, peak {peak:.2f} GiB")
    random_speed, shard_speed = (statistics.median(side) for side in zip(*pairs, strict=True))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{options.backbone} {options.side} px batch {options.batch} on {device}, {precision(recipe)}, "
        f"{images} images: {shard_speed:.1f} of {random_speed:.1f} img/s, ratio {shard_speed / random_speed:.3f}"
    )


if __name__ == "__main__":
    main()
