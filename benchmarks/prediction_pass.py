"""What one prediction pass saves: everything `retrain` makes of a trained classifier, with and without it.

    python benchmarks/prediction_pass.py PREPARED MODEL          # folders of `derm prepare` and `derm fit`

Twice in one process: first each step predicts what it needs, as if nothing were kept (calibration the validation
split, the evaluation and the heatmaps the test split each, the artifacts of embeddings all images, once for the three
of them); then all share the predictions of one model folder, in a temporary place. Printed are the images that went
through the graph, CPU seconds of the graph and of everything (figures, t-SNE, decoding too), and their ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.embeddings.artifacts import EMBEDDING_ARTIFACTS
from derm_ml.model_folder import ModelFolder, bundle_named
from derm_ml.predictions.classifier import keep, predict_rows
from derm_ml.records import SPLITS
from derm_ml.registry import get_task
from derm_ml.task import Artifact, Task


@dataclass
class Cost:
    """Images that went through the graph, one for each view, and CPU seconds."""

    images: int = 0
    in_graph: float = 0.0
    in_all: float = 0.0


@contextmanager
def counted():
    """Count what is asked of ONNX Runtime inside."""
    cost, run = Cost(), ort.InferenceSession.run

    def counting(session, outputs, feed, *more):
        before = time.process_time()
        try:
            return run(session, outputs, feed, *more)
        finally:
            cost.images += len(next(iter(feed.values())))
            cost.in_graph += time.process_time() - before

    before = time.process_time()
    ort.InferenceSession.run = counting
    try:
        yield cost
    finally:
        ort.InferenceSession.run = run
        cost.in_all = time.process_time() - before


def made(
    task: Task, bundle: Path, dataset: Dataset, folder_of: Callable[[str], Path], shared: ModelFolder | None
) -> Cost:
    """What the steps of `retrain` after the training cost; `folder_of` says in which model folder an artifact lies."""

    def make(artifact: Artifact) -> None:
        folder = folder_of(artifact.name) / artifact.name
        folder.mkdir(parents=True)
        artifact.make(predictor, dataset, folder)

    predictor = Classifier(bundle)
    with counted() as cost:
        outputs = predict_rows(predictor, dataset, dataset.split("validation"))  # as calibration does
        if shared:
            keep(shared, predictor.bundle, dataset, "validation", outputs)
        task.evaluate(predictor, dataset, "test", shared)
        for artifact in task.artifacts:
            make(artifact)
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    dataset, bundle = Dataset.open(options.prepared), bundle_named(options.model)
    task = get_task(dataset.task)
    embedded = {artifact.name for artifact in EMBEDDING_ARTIFACTS}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        apart = made(
            task, bundle, dataset, lambda artifact: root / ("embedded" if artifact in embedded else artifact), None
        )
        together = made(task, bundle, dataset, lambda _: root / "shared", ModelFolder(root / "shared"))
        tables = [ModelFolder(root / "shared").predicted(dataset.md5, split) for split in SPLITS]
        kept = sum(table.stat().st_size for table in tables)
    print(f"{dataset.task}, {dataset.info['sizes']}, {len(dataset.manifest)} images")
    for name in ("images", "in_graph", "in_all"):
        before, after = getattr(apart, name), getattr(together, name)
        print(f"{name:10s} {before:10.1f} {after:10.1f}   ratio {after / before:.3f}")
    print(f"kept: {kept / 1e6:.1f} MB, {kept / len(dataset.manifest) / 1e3:.2f} kB an image")


if __name__ == "__main__":
    main()
