"""Does a model's input gate tell images of its task from everything else? And which detector tells it best?

    python benchmarks/input_gate.py MODEL DATASET --other retina=path/to/odir5k/train --other faces=path/to/faces
    python benchmarks/input_gate.py … --compare          # other detectors on the same embeddings

MODEL is the folder of a classifier or segmenter, DATASET what `derm prepare` wrote. The gate is measured as it lies in
the bundle: refusals of the dataset's test split with the exact interval and, for each set of other images, the AUROC of
the score against the test images and the share from which the model abstains. The test images dark, blurred and
shrunk, images that show nothing, and images that the task draws itself are added. Nothing here was seen when the gate
was fitted.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.input_gate import InputGate, unit_length
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.bundles.session import Cores
from derm_ml.bundles.square_predictor import batched
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.input_gate import ABSTAINED, SCORE, gate_columns
from derm_ml.images.decode import INGEST_FORMATS, ImageError, decode, read_image_file
from derm_ml.metrics.intervals import clopper_pearson
from derm_ml.model_folder import bundle_named
from derm_ml.registry import get_task
from derm_ml.training.input_gate import WANTED, some_of

ENDINGS = {".jpg", ".jpeg", ".png"}
K = 10
Sets = dict[str, Iterable[np.ndarray]]  # decoded when they are asked for: one image in memory, not thousands


def images_below(folder: Path, most: int) -> Iterator[np.ndarray]:
    """At most `most` images that can be read, drawn with a fixed seed."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    random.Random(0).shuffle(files)
    for path in files[:most]:
        try:
            yield decode(read_image_file(path), INGEST_FORMATS)
        except ImageError as error:
            print(f"{path}: {error}")


def spoiled(test: list[np.ndarray]) -> Sets:
    """The test images as no camera should send them, and images that show nothing."""
    rng = np.random.default_rng(0)
    flat = [np.full((256, 256, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(30)]
    shades = [
        np.linspace(rng.integers(0, 256, 3), rng.integers(0, 256, 3), 256)[None].repeat(256, 0) for _ in range(30)
    ]
    return {
        "black": [np.zeros((256, 256, 3), np.uint8)] * 3,
        "one colour or a gradient": [*flat, *(shade.astype(np.uint8) for shade in shades)],
        "noise": [rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(60)],
        "at 8 % of their brightness": ((image * 0.08).astype(np.uint8) for image in test),
        **{f"blurred, sigma {s} % of the side": map(partial(_blurred, share=s / 100), test) for s in (1, 2, 4)},
        "12 pixels wide": (cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA) for image in test),
    }


def _blurred(image: np.ndarray, share: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), share * max(image.shape))


def drawn(task_name: str, most: int) -> Iterator[np.ndarray]:
    """What the task draws of itself."""
    with tempfile.TemporaryDirectory() as folder:
        get_task(task_name).draw(Path(folder), most, 0)
        yield from images_below(Path(folder), most)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the input gate and its rivals judge N images by: statistics (N, S), embedding (N, D) and, of a classifier,
    logits (N, L)."""

    statistics: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray | None

    def __len__(self) -> int:
        return len(self.statistics)


def seen(predictor: Classifier | Segmenter, name: str, images: Iterable[np.ndarray]) -> Seen:
    begin = time.perf_counter()
    parts = [_seen(predictor, batch) for batch in batched(images, 16)]
    logits = [part.logits for part in parts if part.logits is not None]
    statistics, embedding = (
        np.concatenate([getattr(part, what) for part in parts]) for what in ("statistics", "embedding")
    )
    found = Seen(statistics, embedding, np.concatenate(logits) if logits else None)
    print(f"{name}: {len(found)} images in {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    return found


def _seen(predictor: Classifier | Segmenter, images: list[np.ndarray]) -> Seen:
    if isinstance(predictor, Classifier):
        said = predictor(images)
        return Seen(said.statistics, said.embedding, said.logits)
    _, embedding = predictor.seen(images)
    assert embedding is not None  # of a bundle with an input gate
    return Seen(predictor.statistics(images), embedding, None)


def detectors(train: Seen) -> dict[str, Callable[[Seen], np.ndarray]]:
    """Name → how unlike the training images some images are."""
    unit = unit_length(train.embedding)
    whole, normed = LedoitWolf().fit(train.embedding), LedoitWolf().fit(unit)

    def nearest(said: Seen) -> np.ndarray:
        distances = np.sort(1 - unit_length(said.embedding) @ unit.T, axis=1)
        return distances[:, min(K, len(unit) - 1)]

    of_logits = {
        "energy of the logits": lambda said: np.negative(logsumexp(said.logits, axis=1)),
        "highest probability": lambda said: np.negative(np.max(softmax(said.logits, axis=1), axis=1)),
    }
    return (of_logits if train.logits is not None else {}) | {
        f"cosine to the {K}th neighbour": nearest,
        "Mahalanobis, Ledoit-Wolf": lambda said: whole.mahalanobis(said.embedding),
        "the same at unit length": lambda said: normed.mahalanobis(unit_length(said.embedding)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--other", action="append", default=[], metavar="NAME=FOLDER", help="images of something else")
    parser.add_argument("--most", type=int, default=300, help="images of each set")
    parser.add_argument("--compare", action="store_true", help="measure other detectors too")
    given = parser.parse_args()
    dataset = Dataset.open(given.dataset)
    predictor = get_task(dataset.task).load(bundle_named(given.model))
    if not isinstance(predictor, Classifier | Segmenter) or predictor.gate is None:
        parser.error(f"{given.model} has no input gate: train the model again")
    predictor.use(Cores(spinning=False))  # threads that spin cost a busy machine five times the time
    gate, images = predictor.gate, list(images_of(dataset, few(dataset.split("test"), given.most)))
    test = seen(predictor, "test", images)
    sets = dict(entry.split("=", 1) for entry in given.other)
    others: Sets = {name: images_below(Path(folder), given.most) for name, folder in sets.items()}
    others |= spoiled(images) | {"drawn by the task": drawn(dataset.task, min(given.most, 120))}
    said = {name: seen(predictor, name, found) for name, found in others.items()}
    own, refused = judged(gate, test)
    low, high = clopper_pearson(refused, len(test))
    print(f"gate: {gate.about}")
    print(f"refused of the test split: {refused} of {len(test)}: {refused / len(test):.3f} ({low:.3f} to {high:.3f})\n")
    print("| images | n | AUROC of the score | abstained |\n|---|---|---|---|")
    for name, other in said.items():
        scores, abstained = judged(gate, other)
        print(f"| {name} | {len(other)} | {auroc(-own, -scores):.4f} | {abstained / len(other):.3f} |")
    if given.compare:
        train = seen(predictor, "train", images_of(dataset, some_of(dataset.split("train"), 0)))
        validation = seen(predictor, "validation", images_of(dataset, dataset.split("validation")))
        known = detectors(train) | {"this gate": lambda o: gate.strangeness(o.statistics, o.embedding)}
        print("\n| detector: AUROC (abstained) | test | " + " | ".join(said) + " |\n|" + "---|" * (len(said) + 2))
        for name, measure in known.items():
            held, mine = np.sort(measure(validation)), measure(test)
            cut = held[-1 - int(WANTED * len(held))]
            cells = [f"{auroc(mine, far):.3f} ({(far > cut).mean():.2f})" for far in map(measure, said.values())]
            print(f"| {name} | {(mine > cut).mean():.3f} | " + " | ".join(cells) + " |")


def judged(gate: InputGate, images: Seen) -> tuple[np.ndarray, int]:
    """`in_distribution` of each image, and from how many the model abstains."""
    columns = gate_columns(gate.judge(images.statistics, images.embedding))
    return columns[SCORE], int(columns[ABSTAINED].sum())


def images_of(dataset: Dataset, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    return (dataset.image(row) for row in rows.to_dict("records"))


def few(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    return rows if len(rows) <= most else rows.sample(most, random_state=0).sort_index()


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    return float(roc_auc_score(np.r_[np.zeros(len(inside)), np.ones(len(outside))], np.r_[inside, outside]))


if __name__ == "__main__":
    main()
