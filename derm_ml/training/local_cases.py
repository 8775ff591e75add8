"""Local cases: labelled images of the place where a model is used, on which its probabilities and operating points are
fitted instead of on its own validation split.

    derm calibrate malignancy_screening path/to/our_clinic

Another camera and other patients shift what a network says: a threshold that found 95 % of the cancers at home may find
86 % elsewhere. A few hundred labelled cases are far too few to train on, and enough to move a threshold. The network
stays as it is. The local set's own test split takes no part, so that it can say what was gained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from derm_ml.bundles.bundle import LocalCases
from derm_ml.data.dataset import Dataset
from derm_ml.data.splits import split_hash
from derm_ml.places import installation
from derm_ml.records import FROZEN, DataError

FEWEST = 10  # images with a label and images without it: fewer say nothing about a probability
USED = tuple(name for name in FROZEN if name != "test")


@dataclass(frozen=True, eq=False)
class Local:
    """The local cases (rows of `dataset`) and their targets (N, L) in the order of the model's labels."""

    dataset: Dataset
    rows: pd.DataFrame
    targets: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """(N,) str: the patient, lesion or near-duplicates of each."""
        return self.rows["group"].to_numpy(str)

    @property
    def card(self) -> LocalCases:
        named = split_hash(dict.fromkeys(self.rows["id"].astype(str), "local"), "local")
        groups = len(np.unique(self.patients))
        return LocalCases(dataset_md5=self.dataset.md5, images=len(self.rows), groups=groups, split_hash=named)


def local_cases(trained_on: Dataset, version: str) -> Local | None:
    """The local cases of a data version; None for none.

    Raises `DataError` if there is no such version here, if it is of another task or lacks a label, if the model has
    learned or chosen by an image of it, or if a label has too few images to fit anything.
    """
    if not version:
        return None
    path = installation().version(trained_on.task, version)
    if not path.exists():
        raise DataError(
            f"local_cases={version}: there is no such data version in {path.parent}; `derm calibrate` prepares one and "
            "prints its name"
        )
    local = Dataset.open(path)
    if local.task != trained_on.task:
        raise DataError(f"{path} is a dataset of {local.task}, not of {trained_on.task}")
    if missing := [label for label in trained_on.labels if label not in local.labels]:
        raise DataError(f"{path} does not say which images are {', '.join(missing)}: the model's labels must be known")
    known = [name for split in FROZEN for name in trained_on.also_learned(local, split)]
    if known:
        raise DataError(
            f"{len(known)} of the local images are in the model's own training or validation split, {known[0]} among "
            "them: thresholds need cases that the model does not know; take these out"
        )
    rows = local.manifest.loc[local.manifest["split"].isin(USED)]
    targets = rows[[f"target.{label}" for label in trained_on.labels]].to_numpy(np.float32, copy=True)
    for label, column in zip(trained_on.labels, targets.T, strict=True):
        having, lacking = int((column == 1).sum()), int((column == 0).sum())
        if min(having, lacking) < FEWEST:
            raise DataError(
                f"of {len(rows)} local images to fit on, {having} are {label} and {lacking} are not: at least {FEWEST} "
                "of each are needed"
            )
    return Local(local, rows, targets)
