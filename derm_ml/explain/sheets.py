"""Sheets of pictures beside their heatmaps, for reports and the Dagster UI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.dataset import Dataset
from derm_ml.explain.overlay import overlay
from derm_ml.figures.sheets import heatmap_sheet
from derm_ml.predictor import Predictor, concatenate

PER_LABEL = 4  # right and wrong answers shown of each label


def classification_heatmaps(predictor: Predictor, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """`heatmaps.png`: for each label, test pictures the model got right and wrong, beside the Grad-CAM of its answer.

    Pictures are taken in the order of the manifest, so that nobody has picked the pretty ones.
    """
    rows = dataset.split("test").to_dict("records")
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    captions: list[str] = []
    outputs = concatenate(predictor.batches((dataset.image(r), dataset.attributes(r)) for r in rows))
    answers = outputs.probabilities.argmax(axis=1)
    for column, label in enumerate(predictor.labels):
        of_label = [i for i, row in enumerate(rows) if row[f"target.{label}"] == 1]
        right = [i for i in of_label if answers[i] == column][:PER_LABEL]
        wrong = [i for i in of_label if answers[i] != column][: PER_LABEL // 2]
        for i in right + wrong:
            said = predictor.labels[answers[i]]
            square = predictor.square(dataset.image(rows[i]))
            pairs.append((square, overlay(square, outputs.maps[i, answers[i]])))
            captions.append(f"{rows[i]['id']}\nis {label}\nsaid {said} {outputs.probabilities[i, answers[i]]:.0%}")
    path = folder / "heatmaps.png"
    path.write_bytes(heatmap_sheet(pairs, captions, title=f"Grad-CAM of the answer · {RESEARCH_USE}"))
    return {"heatmaps": path}
