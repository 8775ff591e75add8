"""A model of retinal_findings against the plain script, on photographs of patients neither has learned from.

    python benchmarks/against_script.py MODEL DATASET SCRIPT.csv --weights PATH.safetensors

MODEL is what `derm fit retinal_findings` wrote (`out/retinal_findings/strong-…`), DATASET what it was fitted on. The
script (benchmarks/plain_script.py: 224 px, 6 epochs, the whole frame, four flips averaged) trains on the training split
too; SCRIPT.csv keeps its answers, so that it need not be trained again. Both are asked about the validation and the
test split: the model's validation images fitted its calibration, which moves no AUC of one label, and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from plain_script import train_and_predict

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.files import replacing_file
from derm_ml.images.preprocess import to_square
from derm_ml.metrics.classification import auc, mean_auc
from derm_ml.metrics.intervals import estimate, paired_difference
from derm_ml.model_folder import bundle_named
from derm_ml.predictions.classifier import predict_rows

SPLITS = (["validation"], ["test"], ["validation", "test"])


def by_script(dataset: Dataset, unseen: pd.DataFrame, weights: str) -> np.ndarray:
    """Probabilities (M, L) of the script."""

    def squares(rows: pd.DataFrame) -> np.ndarray:
        return np.stack([to_square(dataset.image(row), 224, "squash") for _, row in rows.iterrows()])

    train = dataset.split("train")
    return train_and_predict(squares(train), dataset.targets(train), squares(unseen), weights, epochs=6, side=224)


def by_model(dataset: Dataset, unseen: pd.DataFrame, bundle: Path) -> np.ndarray:
    """Probabilities (M, L) of the bundle, with the photo of the other eye as its card says."""
    classifier = Classifier(bundle)
    said = predict_rows(classifier, dataset, unseen)
    return classifier.with_fellows(said, dataset.fellows(unseen)).probabilities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("--weights", help="ImageNet weights of MobileNetV2 for the script")
    options = parser.parse_args()
    dataset = Dataset.open(options.dataset)
    unseen = pd.concat([dataset.split("validation"), dataset.split("test")]).reset_index(drop=True)
    if not options.script.exists():
        answers = pd.DataFrame(by_script(dataset, unseen, options.weights), columns=list(dataset.labels))
        with replacing_file(options.script) as temporary:
            answers.assign(id=unseen["id"]).to_csv(temporary, index=False)
    script = pd.read_csv(options.script).set_index("id").loc[unseen["id"], list(dataset.labels)].to_numpy()
    model = by_model(dataset, unseen, bundle_named(options.model))
    truth, groups = dataset.targets(unseen), unseen["group"].to_numpy(str)
    for names in SPLITS:
        at = unseen["split"].isin(names).to_numpy()
        for k, label in enumerate(dataset.labels):
            each = [estimate(auc, scores[at, k], truth[at, k]) for scores in (model, script)]
            print(f"{' + '.join(names)} {label}: model {each[0]:.3f}, script {each[1]:.3f}")
        mean = [estimate(mean_auc, scores[at], truth[at]) for scores in (model, script)]
        found = paired_difference(mean_auc, groups[at], model[at], script[at], truth[at])
        print(
            f"{' + '.join(names)} mean AUC: model {mean[0]:.3f}, script {mean[1]:.3f}, difference {found.value:+.4f} "
            f"({found.low:+.4f} to {found.high:+.4f}), p {found.p:.3f}, n = {found.n}"
        )


if __name__ == "__main__":
    main()
