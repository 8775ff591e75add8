"""Pairs of the test split with what is said of them, for reports and the Dagster UI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from derm_ml import RESEARCH_USE
from derm_ml.data.dataset import Dataset
from derm_ml.figures.sheets import contact_sheet
from derm_ml.files import replacing_file
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs.cases import cases
from derm_ml.pairs.evaluation import drawn
from derm_ml.pairs.measure import Numbers
from derm_ml.pairs.predictions import said_of
from derm_ml.pairs.predictor import PairPredictor

SHOWN = 4  # of each kind


def matched_pair_sheet(
    predictor: PairPredictor, dataset: Dataset, folder: Path, numbers: Numbers
) -> Mapping[str, Path]:
    """`matched_pairs.png`: pairs of every kind, evenly spread over the split: nobody has picked the pretty ones.

    What is said of them is what the model folder, that of `folder`, keeps; `numbers` are those of the task's answer.
    """
    of = cases(dataset, "test")
    found = said_of(predictor, dataset, "test", of, ModelFolder.holding(folder), numbers)
    said = {case.id: told for case, told in zip(of, found, strict=True)}
    chosen = []
    for kind in ("delivered", "generated", "same_person", "wrong_person"):
        some = [case for case in of if case.kind == kind]
        chosen += [some[k * len(some) // SHOWN] for k in range(SHOWN)] if len(some) >= SHOWN else some
    pictures = [drawn(case, said[case.id]) for case in chosen]
    captions = [f"{case.id}\n{case.kind.replace('_', ' ')}" for case in chosen]
    path = folder / "matched_pairs.png"
    title = f"Matched pairs · {RESEARCH_USE}"
    with replacing_file(path) as temporary:
        temporary.write_bytes(contact_sheet(pictures, captions, columns=4, tile=300, title=title))
    return {"matched_pairs": path}
