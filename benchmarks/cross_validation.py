"""Cross-validate lesion_classification, and compare two ways to train it on the very same unseen images.

    python benchmarks/cross_validation.py run DATASET OUT --recipe strong --set pretrained=PATH
    python benchmarks/cross_validation.py run DATASET OUT --script WEIGHTS.safetensors
    python benchmarks/cross_validation.py compare OUT OTHER

DATASET is what `derm prepare` wrote. All its images are dealt anew into folds, whole groups (patients, lesions,
near-duplicates) together, each class evenly; every image is predicted once, by a model that never saw its group. A
tenth of the rest serves for calibration. OUT/fold-<k>.csv holds the answers; a fold that is there is not run again.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from plain_script import train_and_predict
from sklearn.model_selection import StratifiedGroupKFold

from derm_ml.dataset import Dataset
from derm_ml.files import replacing_file
from derm_ml.images.preprocess import to_square
from derm_ml.metrics.classification import auc, mean_auc
from derm_ml.metrics.intervals import bootstrap, estimate, paired_difference
from derm_ml.metrics.isic import LABELS as SCORED
from derm_ml.predictor import Predictor, concatenate
from derm_ml.registry import get_task
from derm_ml.splits import split_hash
from derm_ml.task import Recipe, Task


def folds(dataset: Dataset, k: int) -> list[Dataset]:
    """The same dataset `k` times, each time with another part of its images as the test split."""
    table = dataset.manifest
    dealt = list(StratifiedGroupKFold(k, shuffle=True, random_state=0).split(table, table["label"], table["group"]))
    parts = []
    for rest, unseen in dealt:
        split = np.full(len(table), "train", object)
        split[unseen] = "test"
        inner = StratifiedGroupKFold(10, shuffle=True, random_state=0)
        _, held = next(iter(inner.split(rest, table["label"].iloc[rest], table["group"].iloc[rest])))
        split[rest[held]] = "validation"
        names = dict(zip(table["id"], split, strict=True))
        hashes = {name: split_hash(names, name) for name in ("train", "validation", "test")}
        parts.append(
            Dataset(dataset.path, copy.deepcopy(dataset.info) | {"split_hashes": hashes}, table.assign(split=split))
        )
    return parts


def by_recipe(task: Task, recipe: Recipe, dataset: Dataset, out: Path) -> np.ndarray:
    """Probabilities (M, L) of the test split from a bundle trained as `derm fit` does."""
    bundle = task.fit(
        dataset, recipe, out, lambda r: print(f"  epoch {r.epoch}/{r.epochs} {r.metrics} {r.seconds:.0f} s", flush=True)
    )
    rows = dataset.split("test")
    batches = Predictor(bundle).batches((dataset.image(r), dataset.attributes(r)) for _, r in rows.iterrows())
    return concatenate(batches).probabilities


def by_script(weights: str, dataset: Dataset) -> np.ndarray:
    """Probabilities (M, L) of the test split from the plain script, trained on training and validation images."""

    def squares(rows: pd.DataFrame) -> np.ndarray:
        return np.stack([to_square(dataset.image(r), 224, "squash") for _, r in rows.iterrows()])

    rows = dataset.manifest.loc[dataset.manifest["split"] != "test"]
    return train_and_predict(squares(rows), dataset.targets(rows).argmax(1), squares(dataset.split("test")), weights)


def run(options: argparse.Namespace) -> None:
    dataset, task = Dataset.open(options.dataset), get_task("lesion_classification")
    values = dict(value.split("=", 1) for value in options.set)
    recipe = task.recipe(options.recipe, **{name: yaml.safe_load(text) for name, text in values.items()})
    options.out.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(folds(dataset, options.folds)):
        path = options.out / f"fold-{number}.csv"
        if path.exists() or number not in (options.only or range(options.folds)):
            continue
        started = time.perf_counter()
        if options.script:
            found = by_script(options.script, part)
        else:
            found = by_recipe(task, recipe, part, options.out / f"fold-{number}")
        rows = part.split("test")
        table = rows[["id", "group", "label"]].assign(fold=number)
        table[list(dataset.labels)] = found
        with replacing_file(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"fold {number}: {time.perf_counter() - started:.0f} s, mean AUC {_measure(table)[0]:.4f}", flush=True)
    say(options.out)


def _measure(table: pd.DataFrame) -> tuple[float, float, float]:
    arrays = _arrays(table)
    value = estimate(_by_fold, *arrays)
    low, high = bootstrap(_by_fold, table["group"].to_numpy(), *arrays)
    if value is None or low is None or high is None:
        raise SystemExit("a fold has no image of a label: use fewer folds")
    return value, low, high


def _arrays(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = np.stack([table["label"].to_numpy() == name for name in SCORED], axis=1).astype(np.float32)
    return table[list(SCORED)].to_numpy(), truth, table["fold"].to_numpy()


def _by_fold(scores: np.ndarray, truth: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over folds of the mean AUC: scores of two models must not be ranked against each other."""
    parts = [fold == number for number in np.unique(fold)]
    return np.mean([mean_auc(scores[part], truth[part], weights[:, part]) for part in parts], axis=0)


def read(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path) for path in sorted(out.glob("fold-*.csv"))]).sort_values("id")


def say(out: Path) -> None:
    table = read(out)
    value, low, high = _measure(table)
    scores, truth, fold = _arrays(table)
    each = {
        name: np.mean([estimate(auc, scores[fold == f, k], truth[fold == f, k]) or np.nan for f in np.unique(fold)])
        for k, name in enumerate(SCORED)
    }
    alone = ", ".join(f"{name} {figure:.4f}" for name, figure in each.items())
    print(
        f"{out.name}: mean AUC {value:.4f} ({low:.4f} to {high:.4f}), n = {len(table)} in {table.fold.nunique()} folds"
    )
    print(f"  {alone}")


def compare(options: argparse.Namespace) -> None:
    a, b = read(options.out), read(options.other)
    both = sorted(set(a["id"]) & set(b["id"]))
    a, b = (t.set_index("id").loc[both].reset_index() for t in (a, b))
    if not (a["fold"] == b["fold"]).all():
        raise SystemExit("the two were not run on the same folds")
    (of_a, truth, fold), (of_b, _, _) = _arrays(a), _arrays(b)
    found = paired_difference(_by_fold, a["group"].to_numpy(), of_a, of_b, truth, fold)
    say(options.out)
    say(options.other)
    print(f"difference {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {found.p:.3f}, n = {found.n}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running = verbs.add_parser("run", help="train and predict fold by fold")
    running.add_argument("dataset", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--recipe", default="")
    running.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    running.add_argument("--script", metavar="WEIGHTS", help="the plain script instead of a recipe")
    running.add_argument("--folds", type=int, default=3)
    running.add_argument("--only", type=int, nargs="+", metavar="FOLD", help="these folds alone, counted from 0")
    running.set_defaults(verb=run)
    comparing = verbs.add_parser("compare", help="the paired difference of two runs")
    comparing.add_argument("out", type=Path)
    comparing.add_argument("other", type=Path)
    comparing.set_defaults(verb=compare)
    options = parser.parse_args()
    options.verb(options)


if __name__ == "__main__":
    main()
