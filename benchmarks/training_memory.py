"""Peak memory of one training epoch against the number of images.

    python benchmarks/training_memory.py --images 1000 4000 16000 64000

Each size is trained in a process of its own: 1000 drawn pictures, listed as often as the size asks for, through the
same shards, workers and loop as `derm fit`. What is printed is the peak resident size of the process and its worker.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.registry import get_task
from derm_ml.task import PrepareSettings

TASK = get_task("lesion_classification")


def train(prepared: Path, images: int) -> None:
    drawn = Dataset.open(prepared)
    parts = [drawn.split(name) for name in ("train", "validation")]
    repeated = pd.concat([pd.concat([part] * -(-images // len(part))).head(images) for part in parts])
    dataset = Dataset(prepared, drawn.info, repeated)
    values = {"backbone": "mobilenet_v3_small", "side": 64, "epochs": 1, "batch_size": 64, "precision": "32-true"}
    with tempfile.TemporaryDirectory() as out:
        TASK.fit(dataset, TASK.recipe("drawn", **values), Path(out), lambda _: None)
    sizes = (resource.getrusage(who).ru_maxrss / 2**10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print("{:8d} images: main process {:7.1f} MiB, worker {:7.1f} MiB".format(images, *sizes), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000, 16000, 64000])
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepared:
        train(options.prepared, options.images[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        TASK.draw(folder / "raw", 1000)
        prepare(TASK, folder / "raw", PrepareSettings.model_validate({}), folder / "prepared")
        for count in options.images:
            command = [sys.executable, __file__, "--images", str(count), "--prepared", str(folder / "prepared")]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
