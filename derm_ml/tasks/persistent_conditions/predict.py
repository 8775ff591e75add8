"""What persistent_conditions says and shows about one pair of photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml.asking.answers import Explanation
from derm_ml.asking.pair import Pair
from derm_ml.asking.replay import Upload
from derm_ml.bundles.bundle import model_of
from derm_ml.explain.layers import png_of
from derm_ml.explain.matches import side_by_side
from derm_ml.explain.panels import captioned
from derm_ml.pairs.matching.matcher import Outcome
from derm_ml.pairs.predictor import PairPredictor
from derm_ml.sentences import WrongValue
from derm_ml.tasks.persistent_conditions.asking import ASKING, Visits
from derm_ml.tasks.persistent_conditions.task import TASK
from derm_ml.tasks.persistent_conditions.visits import numbers_in, visits_of

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation


def load(bundle: Path) -> PairPredictor:
    """The predictor of a bundle of this task."""
    return PairPredictor(model_of(TASK.name, bundle))


def answer(predictor: PairPredictor, pair: Pair, options: Mapping[str, str]) -> Visits:
    """Matches with confidence and change of size, and the state of every box; or a refusal with its reason.

    A pair without boxes is only registered. Numbers of boxes are their places in what was sent, from 0.
    Raises `ValueError` for a box with a label the model does not know.
    """
    _known_labels(predictor, pair)
    return visits_of(pair, predictor(pair))


def explain(predictor: PairPredictor, pair: Pair, options: Mapping[str, str]) -> np.ndarray:
    """Both photos with their boxes in the colour of their state, a line from each lesion to itself, and a caption."""
    _known_labels(predictor, pair)
    return _drawn(predictor, pair, predictor(pair))


def explanation(predictor: PairPredictor, pair: Pair, options: Mapping[str, str]) -> tuple[Visits, Explanation]:
    """The answer, and the drawing that `explain` gives; the lines are the answer's `matches`."""
    _known_labels(predictor, pair)
    outcome = predictor(pair)
    height, width = pair.sizes[0]
    drawing = png_of(_drawn(predictor, pair, outcome))
    return visits_of(pair, outcome), Explanation(kind="matches", width=width, height=height, layers=[], drawing=drawing)


def _drawn(predictor: PairPredictor, pair: Pair, outcome: Outcome) -> np.ndarray:
    states = tuple([fate.state for fate in side] for side in outcome.fates)
    drawn = side_by_side(pair, [(m.first, m.second) for m in outcome.matches], (states[0], states[1]))
    text = f"refused: {outcome.reason}"
    if outcome.accepted:
        every = [fate.state for side in outcome.fates for fate in side]
        counts = {
            "persistent": len(outcome.matches), **{s: every.count(s) for s in ("resolved", "new", "not_visible")}
        }  # fmt: skip
        text = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts.items())
    return captioned(drawn, f"{text} (model {predictor.bundle.version})\n{predictor.card.small_print}")


def numbers(answer: Mapping[str, Any]) -> dict[str, float]:
    """Every number of an answer that a built service must reproduce, by name."""
    return numbers_in(answer)


def held_out(dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
    """Test pairs as they would be uploaded, with what the evaluation said of them."""
    from derm_ml.pairs.replay import pair_uploads

    return pair_uploads(ASKING, dataset, evaluation, n)


def _known_labels(predictor: PairPredictor, pair: Pair) -> None:
    for side, regions in zip(("first", "second"), pair.regions, strict=True):
        for number, region in enumerate(regions):
            if region.label not in predictor.labels:
                known = ", ".join(predictor.labels)
                raise WrongValue(f"box {number} of the {side} photo has an unknown label; the model knows {known}")
