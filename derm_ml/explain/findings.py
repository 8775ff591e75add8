"""Heatmaps of findings that do not exclude each other: each has its own map.

For one picture (`/explain`, `derm explain`) and as sheets of a whole split, one a finding (report, Dagster).
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd

from derm_ml import RESEARCH_USE
from derm_ml.asking.pair import Pair
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.data.dataset import Dataset
from derm_ml.explain.layers import shown
from derm_ml.explain.overlay import captioned, overlay
from derm_ml.figures.sheets import heatmap_sheet
from derm_ml.metrics.words import readable
from derm_ml.sentences import WrongValue, unknown

FOUND, MISSED, FALSE = 6, 3, 3  # pictures of a finding's sheet: right, overlooked, wrongly found


def findings_of(predictor: Classifier, dataset: Dataset, rows: pd.DataFrame) -> Outputs:
    """What the predictor says of the rows of a split, each photo with that of the other eye where there is one."""
    asked = ((dataset.image(row), dataset.attributes(row)) for _, row in rows.iterrows())
    return predictor.with_fellows(concatenate(predictor.batches(asked)), dataset.fellows(rows))


def finding_of(predictor: Classifier, asked: np.ndarray | Pair) -> Outputs:
    """What the predictor says of one eye: its photo (H, W, 3) uint8, or a pair with the photo of the other eye."""
    if not isinstance(asked, Pair):
        return predictor([asked])
    both = [predictor([picture]) for picture in asked.pictures]
    return predictor.with_fellows(concatenate(both), np.array([1, 0]))


def shown_findings(predictor: Classifier, outputs: Outputs, label: str = "") -> list[str]:
    """Whose maps are shown of the first image of `outputs`: `label`'s; without one, those of the findings present.

    Where none is present, that of the most likely. Raises `WrongValue` for a label the model does not know.
    """
    if label and label not in predictor.labels:
        raise WrongValue(unknown("label", label, predictor.labels, "the model knows"))
    p = dict(zip(predictor.labels, outputs.probabilities[0].tolist(), strict=True))
    present = [name for name in predictor.labels if p[name] >= predictor.card.threshold(name)]
    return [label] if label else present or [max(p, key=p.__getitem__)]


def explained(predictor: Classifier, asked: np.ndarray | Pair, options: Mapping[str, str]) -> np.ndarray:
    """RGB (H, W, 3) uint8: a panel for each of the `shown_findings` of `options["label"]`, side by side.

    Of a pair it is the first photo; the second, of the person's other eye, only takes part in the probabilities.
    The longer side of a panel is at most `options["size"]`.
    """
    outputs = finding_of(predictor, asked)
    image = asked.first if isinstance(asked, Pair) else asked
    panels = []
    for name in shown_findings(predictor, outputs, options.get("label", "")):
        column = predictor.labels.index(name)
        p, threshold = float(outputs.probabilities[0, column]), predictor.card.threshold(name)
        said = "present" if p >= threshold else "not present"
        text = f"{readable(name)}: {p:.1%}, {said} (from {threshold:.1%})"
        drawn = overlay(shown(image, options), predictor.unsquared(outputs.maps[0, column], image))
        panels.append(captioned(drawn, f"{text}\n{RESEARCH_USE}"))
    tallest = max(len(panel) for panel in panels)
    white = (255, 255, 255)
    grown = [cv2.copyMakeBorder(q, 0, tallest - len(q), 0, 0, cv2.BORDER_CONSTANT, value=white) for q in panels]
    return np.ascontiguousarray(np.hstack(grown))


def finding_sheets(predictor: Classifier, dataset: Dataset, rows: pd.DataFrame, outputs: Outputs) -> dict[str, bytes]:
    """Finding → a sheet (PNG): pictures in which it was found, overlooked and wrongly found, with the finding's map.

    In the order of the manifest, so that nobody has picked the pretty ones. A picture with several findings is on
    the sheet of each. `outputs` are those of `rows`.
    """
    sheets: dict[str, bytes] = {}
    for column, label in enumerate(predictor.labels):
        truth = rows[f"target.{label}"].to_numpy()
        flagged = outputs.probabilities[:, column] >= predictor.card.threshold(label)
        kinds = {
            "found": np.flatnonzero(flagged & (truth == 1))[:FOUND],
            "overlooked": np.flatnonzero(~flagged & (truth == 1))[:MISSED],
            "wrongly found": np.flatnonzero(flagged & (truth == 0))[:FALSE],
        }
        pairs, captions = [], []
        for kind, places in kinds.items():
            for i in places:
                seen = predictor.square(dataset.image(rows.iloc[i]))
                pairs.append((seen, overlay(seen, outputs.maps[i, column])))
                captions.append(f"{rows['id'].iloc[i]}\n{kind}, {outputs.probabilities[i, column]:.0%}")
        title = f"Grad-CAM of {readable(label)} · {RESEARCH_USE}"
        sheets[label] = heatmap_sheet(pairs, captions, title=title)
    return sheets
