"""Train a classification recipe on one data set, and judge it on that set's unseen images and on another set.

    python benchmarks/cross_source.py run HOME AWAY OUT --recipe strong --set network.backbone=resnet18
    python benchmarks/cross_source.py compare OUT OTHER

HOME and AWAY are folders that `derm prepare` wrote for the same task. The recipe trains on the training split of HOME,
is calibrated on its validation split, and answers for the test split of HOME (the same camera) and for `--cases`
labelled images of AWAY (another clinic, another camera), drawn once by a seed. OUT/home.csv and OUT/away.csv hold the
answers; what is there is not run again. A recipe is chosen by the mean of the two figures, and of the two directions:
gains within one source did not carry over to another (docs/results.md).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.files import replacing_file
from derm_ml.metrics.classification import auc, mean_auc
from derm_ml.metrics.intervals import bootstrap, estimate, paired_difference
from derm_ml.predictions.classifier import predict_rows
from derm_ml.records import UNLABELLED
from derm_ml.registry import get_task

PARTS = ("home", "away")


def run(options: argparse.Namespace) -> None:
    home, away = Dataset.open(options.home), Dataset.open(options.away)
    if home.task != away.task:
        raise SystemExit(f"{options.home} is of {home.task}, {options.away} of {away.task}")
    task = get_task(home.task)
    values = dict(value.split("=", 1) for value in options.set)
    recipe = task.recipe(options.recipe, **{name: yaml.safe_load(text) for name, text in values.items()})
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    bundle = task.fit(home, recipe, options.out, lambda r: print(f"  {r.epoch}/{r.epochs} {r.metrics}", flush=True))
    print(f"{options.out.name}: trained in {time.perf_counter() - started:.0f} s", flush=True)
    labelled = away.manifest[away.manifest["split"] != UNLABELLED]
    drawn = labelled.sample(min(options.cases, len(labelled)), random_state=0)
    asked = {"home": (home, home.split("test")), "away": (away, drawn)}
    for name, (dataset, rows) in asked.items():
        path = options.out / f"{name}.csv"
        if path.exists():
            continue
        table = rows[["id", "group"]].reset_index(drop=True)
        table[list(dataset.labels)] = predict_rows(Classifier(bundle), dataset, rows).probabilities
        table[[f"target.{label}" for label in dataset.labels]] = dataset.targets(rows)
        with replacing_file(path) as temporary:
            table.to_csv(temporary, index=False)
    for name in PARTS:
        say(options.out, name)


def say(out: Path, name: str) -> None:
    table = _read(out, name)
    scores, truth = _arrays(table)
    value = estimate(mean_auc, scores, truth)
    low, high = bootstrap(mean_auc, table["group"].to_numpy(), scores, truth)
    if value is None or low is None or high is None:
        raise SystemExit(f"{out / name}.csv has no image of a label: ask for more --cases")
    each = [(label, estimate(auc, scores[:, k], truth[:, k])) for k, label in enumerate(_labels(table))]
    alone = ", ".join(f"{label} {figure or np.nan:.3f}" for label, figure in each)
    print(f"{out.name}, {name}: mean AUC {value:.3f} ({low:.3f} to {high:.3f}), n = {len(table)}; {alone}", flush=True)


def compare(options: argparse.Namespace) -> None:
    for name in PARTS:
        a, b = (_read(out, name).sort_values("id") for out in (options.out, options.other))
        if list(a["id"]) != list(b["id"]):
            raise SystemExit(f"{name}: the two did not answer for the same images")
        (of_a, truth), (of_b, _) = _arrays(a), _arrays(b)
        found = paired_difference(mean_auc, a["group"].to_numpy(), of_a, of_b, truth)
        say(options.out, name)
        say(options.other, name)
        print(f"  difference {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}), n = {found.n}")


def _read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / f"{name}.csv")


def _labels(table: pd.DataFrame) -> list[str]:
    return [name.removeprefix("target.") for name in table.columns if name.startswith("target.")]


def _arrays(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    truth = table[[f"target.{label}" for label in _labels(table)]].to_numpy(np.float32)
    return table[_labels(table)].to_numpy(), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running = verbs.add_parser("run", help="train on HOME, answer for both")
    running.add_argument("home", type=Path)
    running.add_argument("away", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--recipe", default="")
    running.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    running.add_argument("--cases", type=int, default=2000, help="images of AWAY that are asked about")
    running.set_defaults(verb=run)
    comparing = verbs.add_parser("compare", help="the paired differences of two runs")
    comparing.add_argument("out", type=Path)
    comparing.add_argument("other", type=Path)
    comparing.set_defaults(verb=compare)
    options = parser.parse_args()
    options.verb(options)


if __name__ == "__main__":
    main()
