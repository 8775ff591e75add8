"""Read an evaluation: every metric with its interval, and a metric of your own from the saved predictions.

python examples/read_evaluation.py /tmp/derm_example/model/evaluation_test
"""

import sys
from pathlib import Path

from derm_ml.evaluation.record import Evaluation


def main(folder: Path) -> None:
    evaluation = Evaluation.load(folder)
    print(f"{evaluation.task}, model {evaluation.model_version}, {evaluation.n} images of the {evaluation.split} split")
    for name, metric in evaluation.metrics.items():
        print(f"{name:40} {metric}")  # value (95 % interval), n; or why it is undefined

    # one row per image: id, p.<label> (calibrated), target.<label> (1, 0 or unknown)
    table = evaluation.predictions
    for label in evaluation.labels:
        found = (table[f"p.{label}"] >= 0.5) & (table[f"target.{label}"] == 1)
        print(f"{label}: {found.sum()} of {(table[f'target.{label}'] == 1).sum()} have p ≥ 0.5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
