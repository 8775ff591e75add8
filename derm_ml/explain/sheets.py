"""Sheets of pictures beside their heatmaps, for reports and the Dagster UI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.data.dataset import Dataset
from derm_ml.explain.overlay import overlay
from derm_ml.figures.sheets import heatmap_sheet
from derm_ml.files import replacing_file

PER_LABEL = 4  # right and wrong answers shown of each label


def classification_heatmaps(
    predictor: Classifier, dataset: Dataset, folder: Path, decided_at: str = "balanced"
) -> Mapping[str, Path]:
    """`heatmaps.png`: for each label, test pictures the model got right and wrong, beside the Grad-CAM of its answer.

    Of independent labels (sigmoid) the map is always that of the label, decided at the operating point `decided_at`.
    Pictures are taken in the order of the manifest, so that nobody has picked the pretty ones.
    """
    rows = dataset.split("test").to_dict("records")
    outputs = concatenate(predictor.batches((dataset.image(r), dataset.attributes(r)) for r in rows))
    said = _said_of_classes if predictor.card.head == "softmax" else _said_of_labels
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    captions: list[str] = []
    for i, column, words in said(predictor, rows, outputs, decided_at):
        square = predictor.square(dataset.image(rows[i]))
        pairs.append((square, overlay(square, outputs.maps[i, column])))
        captions.append(f"{rows[i]['id']}\nis {rows[i]['label']}\n{words}")
    path = folder / "heatmaps.png"
    with replacing_file(path) as temporary:
        temporary.write_bytes(heatmap_sheet(pairs, captions, title=f"Grad-CAM of the answer · {RESEARCH_USE}"))
    return {"heatmaps": path}


_Said = Iterator[tuple[int, int, str]]  # row, column of the map, what was said


def _said_of_classes(predictor: Classifier, rows: Sequence[dict], outputs: Outputs, _decided_at: str) -> _Said:
    answers = outputs.probabilities.argmax(axis=1)
    for column, label in enumerate(predictor.labels):
        of_label = [i for i, row in enumerate(rows) if row[f"target.{label}"] == 1]
        right = [i for i in of_label if answers[i] == column][:PER_LABEL]
        wrong = [i for i in of_label if answers[i] != column][: PER_LABEL // 2]
        for i in right + wrong:
            yield i, answers[i], f"said {predictor.labels[answers[i]]} {outputs.probabilities[i, answers[i]]:.0%}"


def _said_of_labels(predictor: Classifier, rows: Sequence[dict], outputs: Outputs, decided_at: str) -> _Said:
    for column, label in enumerate(predictor.labels):
        flagged = outputs.probabilities[:, column] >= predictor.card.threshold(label, decided_at)
        for target, answer, most in ((1, True, 4), (1, False, 4), (0, True, 2), (0, False, 2)):
            found = [i for i, row in enumerate(rows) if row[f"target.{label}"] == target and flagged[i] == answer]
            for i in found[:most]:
                words = "flagged" if answer else "not flagged"
                yield i, column, f"{label} {outputs.probabilities[i, column]:.0%}, {words}"
