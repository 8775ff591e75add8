"""How well the data audit finds what is planted, and how much it flags where nothing is.

python benchmarks/data_audit.py --seeds 1 2 3                  synthetic sets of three tasks, 240 images each
python benchmarks/data_audit.py --data path/to/prepared        labels of a real set, 1 in 20 of them changed
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import average_precision_score

from derm_ml.audit.findings import BLANK, STRANGE, Audit, audit
from derm_ml.audit.labels import doubt
from derm_ml.audit.looks import look_at
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.registry import get_task

TASKS = ("lesion_classification", "retinal_findings", "malignancy_screening")
N, STRANGERS, BLANKS, SHARE = 240, 10, 5, 0.05


def foreign(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Circles of random colours, or noise: anything but skin or an eye."""
    if rng.random() < 0.5:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    image = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(25):
        middle = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(image, middle, int(rng.integers(5, 40)), tuple(int(c) for c in rng.integers(0, 256, 3)), -1)
    return image


def blank(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One colour with the noise of a camera."""
    noise = rng.normal(0, rng.uniform(0, 6), (height, width, 3))
    return np.clip(rng.integers(0, 256, 3) + noise, 0, 255).astype(np.uint8)


def flipped(targets: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Targets (N, L) in which the given rows carry another label."""
    changed = targets.copy()
    exclusive = targets.shape[1] > 1 and (targets.sum(axis=1) == 1).all()
    for row in rows:
        if exclusive:
            changed[row] = np.roll(changed[row], rng.integers(1, targets.shape[1]))
        else:
            label = rng.integers(targets.shape[1])
            changed[row, label] = 1 - changed[row, label]
    return changed


def labels_found(dataset: Dataset, vectors: np.ndarray, seed: int) -> tuple[float, float]:
    """Average precision of finding 5 % changed labels, and the share of changed ones among the first 50."""
    targets = dataset.targets(dataset.manifest).astype(float)
    known = ~np.isnan(targets).any(axis=1)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(known))[: round(SHARE * known.sum())]
    groups = dataset.manifest["group"].to_numpy(str)
    doubts = doubt(vectors[known], flipped(targets, rows, rng)[known], dataset.labels, groups[known])
    planted = np.isin(np.flatnonzero(known), rows)
    first = np.argsort(-doubts.score)[:50]
    return float(average_precision_score(planted, doubts.score)), float(planted[first].mean())


def images_found(raw: Path, out: Path, name: str, seed: int) -> tuple[float, float, Audit]:
    """Average precision of finding planted off-topic and blank images in a raw folder, which is changed."""
    rng = np.random.default_rng(seed)
    images = sorted(raw.rglob("*.jpg"))
    paths = [images[k] for k in rng.permutation(len(images))[: STRANGERS + BLANKS]]
    for k, path in enumerate(paths):
        height, width = np.asarray(cv2.imread(str(path))).shape[:2]
        cv2.imwrite(
            str(path), (foreign if k < STRANGERS else blank)(rng, height, width), [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
    task = get_task(name)
    found = audit(prepare(task, raw, task.settings(), out), task.negative)
    names = [path.stem for path in paths]
    ids = found.images["id"].str.removesuffix(".jpg")
    strange, plain = ids.isin(names[:STRANGERS]), ids.isin(names[STRANGERS:])
    rank = found.images["off_topic"].fillna(-100)
    return (
        float(average_precision_score(strange, rank)),
        float(average_precision_score(plain, found.images["blank"])),
        found,
    )


def synthetic(seeds: list[int]) -> Iterator[str]:
    yield f"thresholds: blank {BLANK:g}, off topic {STRANGE:g}"
    for name in TASKS:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                task, raw = get_task(name), Path(folder) / "raw"
                task.draw(raw, N, seed)
                dataset = prepare(task, raw, task.settings(), Path(folder) / "clean")
                clean = audit(dataset, task.negative)
                vectors = np.stack([look_at(dataset.image(row)).vector for row in dataset.manifest.to_dict("records")])
                labels, _ = labels_found(dataset, vectors, seed)
                strange, plain, _ = images_found(raw, Path(folder) / "planted", name, seed)
            yield (
                f"{name} seed {seed}: clean {len(clean.flagged)} of {len(dataset.manifest)} flagged, "
                f"AP labels {labels:.2f}, off topic {strange:.2f}, blank {plain:.2f}"
            )


def real(path: Path, seeds: list[int]) -> Iterator[str]:
    dataset = Dataset.open(path)
    rows = dataset.manifest
    vectors = np.stack([look_at(dataset.image(row)).vector for row in rows.to_dict("records")])
    targets = dataset.targets(rows).astype(float)
    separated = doubt(vectors, targets, dataset.labels, rows["group"].to_numpy(str)).separated
    yield ", ".join(f"{name}: out-of-fold AUC {metric}" for name, metric in separated.items())
    for seed in seeds:
        precision, first = labels_found(dataset, vectors, seed)
        yield f"seed {seed}: {SHARE:.0%} changed: average precision {precision:.2f}, {first:.0%} of the first 50 right"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    for line in real(given.data, given.seeds) if given.data else synthetic(given.seeds):
        print(line, flush=True)
