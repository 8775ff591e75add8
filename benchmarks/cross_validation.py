"""Cross-validate a classification task, and compare two ways to train it on the very same unseen images.

    python benchmarks/cross_validation.py run DATASET OUT --recipe strong --set pretrained=PATH
    python benchmarks/cross_validation.py run DATASET OUT --script WEIGHTS.safetensors
    python benchmarks/cross_validation.py compare OUT OTHER

DATASET is what `derm prepare` wrote. All its labelled images are dealt anew into folds, whole groups (patients,
lesions, near-duplicates) together, each label evenly; every image is predicted once, by a model that never saw its
group. A tenth of the rest (`--held`) serves a recipe for calibration. The script has no use for it: it trains on the
same images as the recipe, with `--all` on the held ones too. OUT/fold-<k>.csv holds the answers; a fold that is there
is not run again. `compare --split train` counts those images alone that lie in the training split of DATASET.
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

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.data.splits import split_hash
from derm_ml.evaluation.isic import LABELS as SCORED
from derm_ml.files import replacing_file
from derm_ml.images.preprocess import to_square
from derm_ml.metrics.classification import auc, mean_auc
from derm_ml.metrics.intervals import bootstrap, estimate, paired_difference
from derm_ml.predictions.classifier import predictions_of
from derm_ml.recipe import Recipe
from derm_ml.records import UNLABELLED
from derm_ml.registry import get_task
from derm_ml.task import Task

# what the script is told of a task; the labels whose AUCs count, where they are not all
SCRIPT = {"lesion_classification": {"epochs": 10, "side": 192}, "retinal_findings": {"epochs": 6, "side": 224}}
COUNTED = {"lesion_classification": SCORED}


def folds(dataset: Dataset, k: int, held: int) -> list[Dataset]:
    """The same dataset `k` times, each time with another part of its images as the test split.

    One in `held` of the others are the validation split.
    """
    table = dataset.manifest
    there = np.flatnonzero(table["split"] != UNLABELLED)
    groups = table["group"].iloc[there].to_numpy()
    positive = dataset.targets(table.iloc[there]) == 1
    labels = np.array([" + ".join(np.array(dataset.labels)[row]) for row in positive])
    parts = []
    for rest, unseen in StratifiedGroupKFold(k, shuffle=True, random_state=0).split(there, labels, groups):
        split = np.full(len(table), UNLABELLED, object)
        split[there[rest]] = "train"
        split[there[unseen]] = "test"
        inner = StratifiedGroupKFold(held, shuffle=True, random_state=0)
        _, aside = next(iter(inner.split(rest, labels[rest], groups[rest])))
        split[there[rest[aside]]] = "validation"
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
    classifier = Classifier(bundle)
    return predictions_of(classifier, dataset, "test").with_fellows(classifier).outputs.probabilities


def by_script(weights: str, dataset: Dataset, everything: bool) -> np.ndarray:
    """Probabilities (M, L) of the test split from the plain script."""

    def squares(rows: pd.DataFrame) -> np.ndarray:
        return np.stack([to_square(dataset.image(r), 224, "squash") for _, r in rows.iterrows()])

    learned = ["train", "validation"] if everything else ["train"]
    rows = dataset.manifest.loc[dataset.manifest["split"].isin(learned)]
    targets = dataset.targets(rows)
    aims = targets.argmax(1) if (targets.sum(1) == 1).all() else targets  # labels that exclude each other: classes
    return train_and_predict(squares(rows), aims, squares(dataset.split("test")), weights, **SCRIPT[dataset.task])


def run(options: argparse.Namespace) -> None:
    dataset = Dataset.open(options.dataset)
    task = get_task(dataset.task)
    values = dict(value.split("=", 1) for value in options.set)
    recipe = task.recipe(options.recipe, **{name: yaml.safe_load(text) for name, text in values.items()})
    options.out.mkdir(parents=True, exist_ok=True)
    counted = list(COUNTED.get(dataset.task, dataset.labels))
    places = [dataset.labels.index(name) for name in counted]
    frozen = dataset.manifest.set_index("id")["split"]
    for number, part in enumerate(folds(dataset, options.folds, options.held)):
        path = options.out / f"fold-{number}.csv"
        if path.exists() or number not in (options.only or range(options.folds)):
            continue
        started = time.perf_counter()
        if options.script:
            found = by_script(options.script, part, options.all)
        else:
            found = by_recipe(task, recipe, part, options.out / f"fold-{number}")
        rows = part.split("test")
        table = rows[["id", "group"]].assign(fold=number, split=frozen[rows["id"]].to_numpy())
        table[counted] = found[:, places]
        table[[f"target.{name}" for name in counted]] = part.targets(rows)[:, places]
        with replacing_file(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"fold {number}: {time.perf_counter() - started:.0f} s, mean AUC {_measure(table)[0]:.4f}", flush=True)
    say(read(options.out), options.out.name)


def _measure(table: pd.DataFrame) -> tuple[float, float, float]:
    arrays = _arrays(table)
    value = estimate(_by_fold, *arrays)
    low, high = bootstrap(_by_fold, table["group"].to_numpy(), *arrays)
    if value is None or low is None or high is None:
        raise SystemExit("a fold has no image of a label: use fewer folds")
    return value, low, high


def _counted(table: pd.DataFrame) -> list[str]:
    return [name.removeprefix("target.") for name in table.columns if name.startswith("target.")]


def _arrays(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = table[[f"target.{name}" for name in _counted(table)]].to_numpy(np.float32)
    return table[_counted(table)].to_numpy(), truth, table["fold"].to_numpy()


def _by_fold(scores: np.ndarray, truth: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over folds of the mean AUC: scores of two models must not be ranked against each other."""
    parts = [fold == number for number in np.unique(fold)]
    return np.mean([mean_auc(scores[part], truth[part], weights[:, part]) for part in parts], axis=0)


def read(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path) for path in sorted(out.glob("fold-*.csv"))]).sort_values("id")


def say(table: pd.DataFrame, name: str) -> None:
    value, low, high = _measure(table)
    scores, truth, fold = _arrays(table)
    each = {
        name: np.mean([estimate(auc, scores[fold == f, k], truth[fold == f, k]) or np.nan for f in np.unique(fold)])
        for k, name in enumerate(_counted(table))
    }
    alone = ", ".join(f"{name} {figure:.4f}" for name, figure in each.items())
    print(f"{name}: mean AUC {value:.4f} ({low:.4f} to {high:.4f}), n = {len(table)} in {table.fold.nunique()} folds")
    print(f"  {alone}")


def compare(options: argparse.Namespace) -> None:
    a, b = read(options.out), read(options.other)
    both = sorted(set(a["id"]) & set(b["id"]))
    a, b = (t.set_index("id").loc[both].reset_index() for t in (a, b))
    if not (a["fold"] == b["fold"]).all():
        raise SystemExit("the two were not run on the same folds")
    if options.split:
        a, b = (t[t["split"].isin(options.split)] for t in (a, b))
    (of_a, truth, fold), (of_b, _, _) = _arrays(a), _arrays(b)
    found = paired_difference(_by_fold, a["group"].to_numpy(), of_a, of_b, truth, fold)
    say(a, options.out.name)
    say(b, options.other.name)
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
    running.add_argument("--all", action="store_true", help="the script trains on the held images too")
    running.add_argument("--folds", type=int, default=3)
    running.add_argument("--held", type=int, default=10, help="one in so many training images is held for calibration")
    running.add_argument("--only", type=int, nargs="+", metavar="FOLD", help="these folds alone, counted from 0")
    running.set_defaults(verb=run)
    comparing = verbs.add_parser("compare", help="the paired difference of two runs")
    comparing.add_argument("out", type=Path)
    comparing.add_argument("other", type=Path)
    comparing.add_argument("--split", nargs="+", help="count only images in these splits of the dataset itself")
    comparing.set_defaults(verb=compare)
    options = parser.parse_args()
    options.verb(options)


if __name__ == "__main__":
    main()
