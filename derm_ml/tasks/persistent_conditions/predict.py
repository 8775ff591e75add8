"""What persistent_conditions says and shows about one pair of photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.asking.answers import Explanation
from derm_ml.asking.pair import Pair
from derm_ml.asking.replay import Upload
from derm_ml.bundles.bundle import model_of
from derm_ml.explain.layers import png_of
from derm_ml.explain.matches import side_by_side
from derm_ml.explain.overlay import captioned
from derm_ml.images.geometry import resized
from derm_ml.pairs.matching.matcher import Fate, Outcome
from derm_ml.pairs.predictor import PairPredictor
from derm_ml.records import Region
from derm_ml.sentences import WrongValue
from derm_ml.tasks.persistent_conditions.asking import ASKING, BoxMatch, BoxState, Registration, Visits
from derm_ml.tasks.persistent_conditions.task import TASK

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
    return _visits(pair, predictor(pair))


def _visits(pair: Pair, outcome: Outcome) -> Visits:
    """An outcome in the words of the answer."""
    return Visits(
        accepted=outcome.accepted,
        reason=outcome.reason,
        probability_same_skin=outcome.same,
        registration=_registration(pair, outcome),
        matches=[
            BoxMatch(
                first=m.first,
                second=m.second,
                label=pair.first_regions[m.first].label,
                confidence=m.confidence,
                size_change=m.growth,
                overlap=m.overlap,
                distance=m.distance,
            )
            for m in outcome.matches
        ],
        first=_boxes(pair.first_regions, outcome.fates[0]),
        second=_boxes(pair.second_regions, outcome.fates[1]),
    )


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
    return _visits(pair, outcome), Explanation(kind="matches", width=width, height=height, layers=[], drawing=drawing)


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
    return captioned(drawn, f"{text} (model {predictor.bundle.version})\n{RESEARCH_USE}")


def numbers(answer: Mapping[str, Any]) -> dict[str, float]:
    """Every number of an answer that a built service must reproduce, by name."""
    found = {"accepted": float(answer["accepted"])}
    if answer["probability_same_skin"] is not None:
        found["probability_same_skin"] = float(answer["probability_same_skin"])
    for match in answer["matches"]:
        found[f"match.{match['first']}.{match['second']}"] = float(match["confidence"])
    for side in ("first", "second"):
        for box in answer[side]:
            if "state" in box:
                found[f"{side}.{box['number']}.{box['state']}"] = float(box["confidence"])
    return found


def numbers_of(pair: Pair, outcome: Outcome) -> dict[str, float]:
    """The numbers of the answer to a pair, of whose outcome they are made."""
    return numbers(_visits(pair, outcome).model_dump(mode="json", exclude_unset=True))


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


def _boxes(regions: tuple[Region, ...], fates: Sequence[Fate]) -> list[BoxState]:
    """One entry a box; without a state where the pair was refused."""
    if not fates:
        return [BoxState(number=k, label=region.label) for k, region in enumerate(regions)]
    return [
        BoxState(number=k, label=region.label, state=fate.state, confidence=fate.confidence)
        for k, (region, fate) in enumerate(zip(regions, fates, strict=True))
    ]


def _registration(pair: Pair, outcome: Outcome) -> Registration | None:
    found = outcome.registration
    if found is None:
        return None
    shrunk = [resized(sent, looked_at) for sent, looked_at in zip(pair.sizes, found.sizes, strict=True)]
    matrix = np.linalg.inv(shrunk[1]) @ found.matrix @ shrunk[0]
    return Registration(
        method=found.method,
        mirrored=found.is_mirrored,
        faces=all(found.faces),
        points_that_return=found.evidence["returns"],
        features_that_agree=int(found.evidence["agreeing"]),
        homography=[float(v) for v in (matrix / matrix[2, 2]).ravel()],
    )
