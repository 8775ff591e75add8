"""What a pair matcher says of every case of a split: asked once, kept below its model folder.

    said = said_of(predictor, dataset, "test", cases(dataset, "test"), model_folder, numbers)

A kept table has one row a case: id, and `said`, the JSON of `measure.Said`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from derm_ml.asking.pair import Pair
from derm_ml.data.dataset import Dataset
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs.cases import Case, in_parallel
from derm_ml.pairs.matching.original import original_matches, unregistered_matches
from derm_ml.pairs.measure import Baselines, Numbers, PairAnswer, pair_answered
from derm_ml.pairs.predictor import PairPredictor
from derm_ml.predictions.kept import About, kept_table

KIND = "pairs"


def said_of(
    predictor: PairPredictor,
    dataset: Dataset,
    split: str,
    of: Sequence[Case],
    model_folder: ModelFolder | None,
    numbers: Numbers,
) -> list[PairAnswer]:
    """What the predictor, and the baselines, say of the cases of a split.

    Read below `model_folder` where it is kept, else asked and kept there; without a folder asked afresh. `numbers` are
    those of the task's answer.
    """
    baselines = baselines_of(predictor)

    def ask(case: Case) -> str:
        return json.dumps(asdict(pair_answered(predictor, *case.load(), baselines, numbers)))

    table = kept_table(
        model_folder,
        About.of(KIND, predictor.bundle, dataset, split),
        [case.id for case in of],
        lambda: pa.table({"id": [c.id for c in of], "said": list(in_parallel(ask, of, lambda _: None))}),
    )
    return [_read(text) for text in table["said"].to_pylist()]


def baselines_of(predictor: PairPredictor) -> Baselines:
    """Other ways to match the same pairs, by name."""

    def original(pair: Pair) -> list[tuple[int, int]]:
        return [(i, j) for i, j, _ in original_matches(pair, predictor.faces)] if predictor.faces else []

    return {"unregistered": unregistered_matches} | ({"original": original} if predictor.faces else {})


def _read(text: str) -> PairAnswer:
    stored = json.loads(text)
    first, second = stored["states"]
    return PairAnswer(
        accepted=stored["accepted"],
        reason=stored["reason"],
        same=stored["same"],
        matches=tuple((i, j, confidence) for i, j, confidence in stored["matches"]),
        states=(tuple(first), tuple(second)),
        errors=tuple(stored["errors"]),
        answer=stored["answer"],
        baselines={name: tuple((i, j) for i, j in found) for name, found in stored["baselines"].items()},
    )
