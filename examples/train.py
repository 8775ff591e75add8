"""Train a classifier on synthetic images: generate, prepare, fit, evaluate. Under a minute on two cores.

python examples/train.py /tmp/derm_example

`derm draw`, `derm prepare`, `derm fit` and `derm evaluate` call the same functions.
"""

import sys
from pathlib import Path

from derm_ml.data.prepare import prepare
from derm_ml.progress import EpochReport
from derm_ml.promotion.report import save_with_verdict
from derm_ml.registry import get_task


def show(epoch: EpochReport) -> None:
    print(f"epoch {epoch.epoch} of {epoch.epochs}: {epoch.metrics}")


def main(folder: Path) -> None:
    task = get_task("lesion_classification")

    task.draw(folder / "raw", n=60, seed=0)  # your own images: any layout that `task.read` recognises
    dataset = prepare(task, folder / "raw", task.settings(), folder / "prepared")
    print(dataset.manifest["split"].value_counts().to_dict())

    recipe = task.recipe("drawn")  # of your own images: task.recipe("strong")
    bundle = task.fit(dataset, recipe, folder / "model", show)

    evaluation = task.evaluate(task.load(bundle), dataset, "test")
    report = save_with_verdict(task, evaluation, folder / "model" / "evaluation_test") / "report.html"
    print(f"{task.primary_metric}: {evaluation.metrics[task.primary_metric]}")
    print(report)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
