"""Sheets of a split's pictures beside their heatmaps, for reports and the Dagster UI.

They predict nothing: the predictions of the split are given, maps and all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from derm_ml.bundles.classifier import Classifier
from derm_ml.explain.overlay import overlay
from derm_ml.figures.sheet_page import Shown, write_sheet
from derm_ml.figures.sheets import Sheet
from derm_ml.metrics.words import readable
from derm_ml.predictions.classifier import Predictions

IN_ORDER = (
    "Test images in the order of the manifest, not hand-picked; ✗ marks a wrong answer. Left the image, right with its "
    "heatmap: where the network looked, which is no proof of why."
)
PER_LABEL = 4  # right and wrong answers shown of each label
FOUND, MISSED, FALSE = 6, 3, 3  # pictures of a finding's sheet: right, overlooked, wrongly found


def classification_heatmaps(
    classifier: Classifier, predictions: Predictions, folder: Path, decided_at: str = "balanced"
) -> Mapping[str, Path]:
    """`heatmaps.png` and `.html`: for each label, pictures the model got right and wrong, beside the Grad-CAM of its
    answer.

    Of independent labels (sigmoid) the map is always that of the label, decided at the operating point `decided_at`.
    Pictures are taken in the order of the manifest, not hand-picked.
    """
    said = _said_of_classes if classifier.card.head == "softmax" else _said_of_labels
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    captions: list[str] = []
    for i, column, words in said(classifier, predictions, decided_at):
        row = predictions.rows.iloc[i]
        pairs.append(_mapped(classifier, predictions, i, column))
        captions.append(f"{row['id']}\n{words}\nTrue: {readable(row['label'])}")
    sheet = Sheet(pairs, captions, columns=4, title=f"Grad-CAM of the answer · {classifier.card.small_print}")
    shown = Shown("Heatmaps", IN_ORDER, heat=True, synthetic=classifier.card.for_synthetic_images)
    return write_sheet(sheet, folder, "heatmaps", shown)


def finding_heatmaps(classifier: Classifier, predictions: Predictions, folder: Path) -> Mapping[str, Path]:
    """`heatmaps_<finding>.png` and `.html` of each finding."""
    made: dict[str, Path] = {}
    for label, sheet in finding_sheets(classifier, predictions).items():
        title, synthetic = f"Heatmaps of {readable(label)}", classifier.card.for_synthetic_images
        made |= write_sheet(sheet, folder, f"heatmaps_{label}", Shown(title, IN_ORDER, heat=True, synthetic=synthetic))
    return made


def finding_sheets(
    classifier: Classifier, predictions: Predictions, found: int = FOUND, missed: int = MISSED, false: int = FALSE
) -> dict[str, Sheet]:
    """Finding → a sheet: so many pictures in which it was found, overlooked and wrongly found, with the finding's map.

    In the order of the manifest, not hand-picked. A picture with several findings is on
    the sheet of each.
    """
    sheets: dict[str, Sheet] = {}
    rows, probabilities = predictions.rows, predictions.outputs.probabilities
    for column, label in enumerate(classifier.labels):
        truth = rows[f"target.{label}"].to_numpy()
        flagged = probabilities[:, column] >= classifier.card.threshold(label)
        kinds = {
            "found": np.flatnonzero(flagged & (truth == 1))[:found],
            "overlooked": np.flatnonzero(~flagged & (truth == 1))[:missed],
            "wrongly found": np.flatnonzero(flagged & (truth == 0))[:false],
        }
        shown = [(kind, int(i)) for kind, places in kinds.items() for i in places]
        pairs = [_mapped(classifier, predictions, i, column) for _, i in shown]
        captions = [f"{rows['id'].iloc[i]}\n{kind}, {probabilities[i, column]:.0%}" for kind, i in shown]
        title = f"Grad-CAM of {readable(label)} · {classifier.card.small_print}"
        sheets[label] = Sheet(pairs, captions, columns=4, title=title)
    return sheets


def _mapped(classifier: Classifier, predictions: Predictions, i: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """The image of a row, and the same with the map of a label laid over it."""
    image = predictions.dataset.image(predictions.rows.iloc[i])
    return image, overlay(image, classifier.unsquared(predictions.outputs.maps[i, column], image))


_Said = Iterator[tuple[int, int, str]]  # row, column of the map, what was said


def _said_of_classes(classifier: Classifier, predictions: Predictions, _decided_at: str) -> _Said:
    p = predictions.outputs.probabilities
    answers = p.argmax(axis=1)
    for column, label in enumerate(classifier.labels):
        of_label = np.flatnonzero(predictions.rows[f"target.{label}"].to_numpy() == 1)
        right = [i for i in of_label if answers[i] == column][:PER_LABEL]
        wrong = [i for i in of_label if answers[i] != column][: PER_LABEL // 2]
        for i in right + wrong:
            said = f"Predicted: {readable(classifier.labels[answers[i]])} ({p[i, answers[i]]:.0%})"
            yield int(i), int(answers[i]), said if answers[i] == column else f"✗ {said}"


def _said_of_labels(classifier: Classifier, predictions: Predictions, decided_at: str) -> _Said:
    for column, label in enumerate(classifier.labels):
        p = predictions.outputs.probabilities[:, column]
        truth = predictions.rows[f"target.{label}"].to_numpy()
        flagged = p >= classifier.card.threshold(label, decided_at)
        for target, answer, most in ((1, True, 4), (1, False, 4), (0, True, 2), (0, False, 2)):
            for i in np.flatnonzero((truth == target) & (flagged == answer))[:most]:
                said = f"{readable(label)} {p[i]:.0%}, {'flagged' if answer else 'not flagged'}"
                yield int(i), column, said if answer == bool(target) else f"✗ {said}"
