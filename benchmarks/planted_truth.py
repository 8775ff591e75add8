"""False alarms of the checks on honest synthetic models, and what they find of planted shortcuts.

    python benchmarks/planted_truth.py --honest 20 --shortcut 5

Each model is trained on a synthetic set of its own (180 images, 6 epochs, 64 pixels; in turn lesion_classification and
malignancy_screening) and asked of its test split as `derm evaluate` asks. Shortcut models: every image carries a dot in
the colour of its label, and half of the labels are wrong. One line a model, then the sums.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.classification_metrics import measure
from derm_ml.evaluation.further import Further
from derm_ml.evaluation.isic import LABELS as SCORED
from derm_ml.evaluation.probe_names import RANDOM_HEAD
from derm_ml.predictions.classifier import predictions_of
from derm_ml.promotion.gates import (
    fails_no_subgroup,
    heatmaps_are_faithful,
    keeps_its_rank_without_background,
    ranks_by_the_lesion,
    serves_subgroups_alike,
)
from derm_ml.registry import get_task
from derm_ml.synthetic.planted import plant

CHECKS = (
    ranks_by_the_lesion,
    keeps_its_rank_without_background,
    fails_no_subgroup,
    serves_subgroups_alike,
    heatmaps_are_faithful,
)
TASKS = ("lesion_classification", "malignancy_screening")
IMAGES, EPOCHS, SIDE = 180, 6, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--honest", type=int, default=20)
    parser.add_argument("--shortcut", type=int, default=5)
    given = parser.parse_args()
    for kind, count, plants in (
        ("honest", given.honest, ()),
        ("shortcut", given.shortcut, ("label-noise", "shortcut")),
    ):
        outcomes = [asked(TASKS[seed % 2], 100 + seed, plants, kind) for seed in range(count)]
        for check in CHECKS:
            said = [outcome[check.__name__] for outcome in outcomes]
            failed, unknown = said.count("failed"), said.count("not evaluable")
            print(f"{kind}: {check.__name__}: failed {failed}, not evaluable {unknown} of {len(said)}", flush=True)


def asked(name: str, seed: int, plants: Sequence[str], kind: str) -> dict[str, str]:
    """Check → passed, failed or not evaluable, of one model trained on a set of its own."""
    task = get_task(name)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        raw = root / "drawn"
        task.draw(raw, IMAGES, seed)
        if plants:
            plant(task.read(raw, task.settings()), raw, root / "set", plants, 0.5, seed, task.negative)
            raw = root / "set"
        prepare(task, raw, task.settings(), root / name)
        dataset = Dataset.open(root / name)
        bundle = task.fit(dataset, task.recipe("drawn", epochs=EPOCHS, side=SIDE, workers=0), root / "model")
        predictor: Any = task.load(bundle)
        predictions = predictions_of(predictor, dataset, "test")
        further = Further.made(predictor, predictions)
        scored = SCORED if name == "lesion_classification" else ()
        cases = Cases.lined_up(predictor.card, predictions.rows, predictions.outputs, scored)
        metrics = measure(cases, further).metrics
    evaluation: Any = SimpleNamespace(task=name, metrics=metrics, labels=task.labels)
    found = {check.__name__: check(evaluation) for check in CHECKS}
    primary, score = metrics[task.primary_metric], metrics["shortcut_score"]
    worst = metrics["auc_worst_subgroup"]
    heat = "; ".join(f"{name} {metrics[name].short}" for name in ("order_gain", "heat_beyond_area", RANDOM_HEAD))
    print(f"{kind} {name} seed {seed}: {task.primary_metric} {primary}; shortcut score {score} ({score.note}); "
          f"worst subgroup {worst} ({worst.note}); {heat}", flush=True)  # fmt: skip
    return {
        check: "passed" if finding.passed else "failed" if finding.evaluable else "not evaluable"
        for check, finding in found.items()
    }


if __name__ == "__main__":
    main()
