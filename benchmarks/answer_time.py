"""How long models take for one answer, and how large their graphs are, compared by turns in one process.

    python benchmarks/answer_time.py MODEL OTHER                 # folders of `derm fit`

One image of 512 pixels is asked about on one thread, views and all, first a few times to warm up. Printed for each
model are the median of the CPU milliseconds, their quartiles, and the size of its graph. Weights do not matter for the
time, so one epoch of training is enough.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from derm_ml.bundles.bundle import read_card
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.model_folder import bundle_named

WARM = 3


def opened(bundle: Path) -> Classifier | Segmenter:
    return (Segmenter if read_card(bundle).head == "mask" else Classifier)(bundle, threads=1)


def seconds_of(model: Classifier | Segmenter, image: np.ndarray) -> float:
    begun = time.process_time()
    if isinstance(model, Segmenter):
        model.segment([image])
    else:
        model([image])
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model folders")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    models = [opened(bundle_named(path)) for path in given.models]
    image = np.random.default_rng(0).integers(0, 256, (384, 512, 3), np.uint8)
    rounds = [[seconds_of(model, image) for model in models] for _ in range(WARM + given.rounds)][WARM:]
    table = Table(
        "model", "an answer", "quartiles", "model.onnx", title=f"one image, one thread, {given.rounds} rounds"
    )
    for model, seconds in zip(models, zip(*rounds, strict=True), strict=True):
        low, middle, high = 1e3 * np.percentile(seconds, [25, 50, 75])
        size = model.bundle.model.stat().st_size / 1e6
        table.add_row(model.bundle.path.parent.name, f"{middle:.1f} ms", f"{low:.1f} to {high:.1f}", f"{size:.1f} MB")
    Console().print(table)


if __name__ == "__main__":
    main()
