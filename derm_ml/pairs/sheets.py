"""Pairs of the test split with what is said of them, for reports and the Dagster UI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from derm_ml.data.dataset import Dataset
from derm_ml.figures.sheet_page import Shown, write_sheet
from derm_ml.figures.sheets import Sheet
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs.cases import KINDS, cases
from derm_ml.pairs.evaluation import drawn
from derm_ml.pairs.measure import Numbers
from derm_ml.pairs.predictions import said_of
from derm_ml.pairs.predictor import PairPredictor

SHOWN = 4  # of each kind


def matched_pair_sheet(
    predictor: PairPredictor, dataset: Dataset, folder: Path, numbers: Numbers
) -> Mapping[str, Path]:
    """`matched_pairs.png` and `.html`: pairs of every kind, evenly spread over the split, not hand-picked.

    What is said of them is what the model folder, that of `folder`, keeps; `numbers` are those of the task's answer.
    """
    of = cases(dataset, "test")
    found = said_of(predictor, dataset, "test", of, ModelFolder.holding(folder), numbers)
    said = {case.id: told for case, told in zip(of, found, strict=True)}
    chosen = []
    for kind in KINDS:
        some = [case for case in of if case.kind == kind]
        chosen += [some[k * len(some) // SHOWN] for k in range(SHOWN)] if len(some) >= SHOWN else some
    pictures = [drawn(case, said[case.id]) for case in chosen]
    captions = [f"{case.id}\n{case.kind.replace('_', ' ')}" for case in chosen]
    shown = Shown(
        "Matched pairs",
        "Pairs of every kind, evenly spread over the test split, not hand-picked.",
        large=True,
        synthetic=predictor.card.for_synthetic_images,
    )
    title = f"{shown.title} · {predictor.card.small_print}"
    sheet = Sheet([[picture] for picture in pictures], captions, columns=4, tile=300, title=title)
    return write_sheet(sheet, folder, "matched_pairs", shown)
