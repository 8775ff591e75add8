"""What a predictor says of cases, and the same held against their truth: one row a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from derm_ml.asking.pair import Pair, Truth
from derm_ml.metrics.matching import Counts, count
from derm_ml.pairs.cases import Case, in_parallel
from derm_ml.pairs.matching.matcher import Outcome


class AnswersPairs(Protocol):
    """Anything that answers pairs."""

    def __call__(self, pair: Pair) -> Outcome: ...


@dataclass(frozen=True)
class PairAnswer:
    """What was said of one case; a refused pair has a reason and neither matches nor states.

    `matches`: (box of the first photo, box of the second, confidence); `states` of the boxes of each photo; `errors`
    (N,): how far each lesion of known place is from where it should be, in units; `answer`: the numbers of the answer;
    `baselines`: matches (box, box) by other methods, where the truth is known.
    """

    accepted: bool
    reason: str
    same: float | None
    matches: tuple[tuple[int, int, float], ...]
    states: tuple[tuple[str, ...], tuple[str, ...]]
    errors: tuple[float, ...]
    answer: dict[str, float]
    baselines: dict[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class PairResult:
    """One measured case. `counts` is None where the truth is not known; a refused pair has said nothing.

    `errors` (N,): how far each lesion is from where it should be, in units; `confidences` pairs (confidence, right).
    `baselines` holds the counts of other methods on the same pair.
    """

    case: Case
    said: PairAnswer
    refused: bool
    reason: str
    same: float | None
    counts: Counts | None
    errors: tuple[float, ...] = ()
    confidences: tuple[tuple[float, bool], ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, Counts] = field(default_factory=dict)
    states: tuple[tuple[str, str], ...] = ()  # (true, said)
    answer: dict[str, float] = field(default_factory=dict)
    unknown: int = 0  # boxes whose state nobody has said: they are left out


Baselines = Mapping[str, Callable[[Pair], Sequence[tuple[int, int]]]]  # matchings without refusal or states
Numbers = Callable[[Pair, Outcome], dict[str, float]]  # of an answer
Done = Callable[[int], None]  # is told how many cases


def no_numbers(_pair: Pair, _outcome: Outcome) -> dict[str, float]:
    return {}


def measure_cases(predictor: AnswersPairs, of: Sequence[Case], baselines: Baselines | None = None) -> list[PairResult]:
    """Ask every case and hold what is said against its truth. `baselines` are counted on pairs of known truth."""

    def one(case: Case) -> PairResult:
        pair, truth = case.load()
        return row_of(case, pair_answered(predictor, pair, truth, baselines or {}), truth)

    return list(in_parallel(one, of, lambda _: None))


def pair_answered(
    predictor: AnswersPairs, pair: Pair, truth: Truth | None, baselines: Baselines, numbers: Numbers = no_numbers
) -> PairAnswer:
    """Ask one pair."""
    outcome = predictor(pair)
    first, second = (tuple(fate.state for fate in side) for side in outcome.fates)
    return PairAnswer(
        bool(outcome.accepted),
        outcome.reason,
        None if outcome.same is None else float(outcome.same),
        tuple((int(m.first), int(m.second), float(m.confidence)) for m in outcome.matches),
        (first, second),
        tuple(_errors(outcome, truth)) if truth else (),
        numbers(pair, outcome),
        {n: tuple((int(i), int(j)) for i, j in matching(pair)) for n, matching in baselines.items()} if truth else {},
    )


def row_of(case: Case, said: PairAnswer, truth: Truth | None) -> PairResult:
    """What was said of a case, held against its truth."""
    refused = not said.accepted
    if truth is None:
        return PairResult(case, said, refused, said.reason, said.same, None, answer=said.answer)
    judged = set(truth.judged((i, j) for i, j, _ in said.matches))
    every = [s for side in truth.states for s in side]
    told = ["refused"] * len(every) if refused else [state for side in said.states for state in side]
    states = [(true, state) for true, state in zip(every, told, strict=True) if true is not None]
    right = set(truth.matches)
    return PairResult(
        case,
        said,
        refused,
        said.reason,
        said.same,
        count(judged, truth.matches, [state for _, state in states], [true for true, _ in states]),
        said.errors,
        tuple((confidence, (i, j) in right) for i, j, confidence in said.matches if (i, j) in judged),
        {k: v for k, v in truth.parameters.items() if isinstance(v, float | int)},
        {name: count(truth.judged(found), truth.matches) for name, found in said.baselines.items()},
        tuple(states),
        said.answer,
        len(every) - len(states),
    )


def _errors(outcome: Outcome, truth: Truth) -> Iterator[float]:
    if outcome.registration is None or not len(truth.points):
        return
    ends = outcome.registration.forward(truth.points[:, :2])
    stretch = np.sqrt(_area_factor(outcome))
    for distance in np.hypot(*(ends - truth.points[:, 2:]).T):
        yield float(distance / (outcome.registration.unit * stretch))


def _area_factor(outcome: Outcome) -> float:
    """By how much the second photo shows areas larger, at its middle."""
    registration = outcome.registration
    assert registration is not None
    height, width = registration.sizes[0]
    corner = np.array([[width / 2, height / 2], [width / 2 + 8, height / 2], [width / 2, height / 2 + 8]])
    a, b, c = registration.forward(corner)
    return max(1e-6, abs(float((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0])) / 64)


def summary(rows: Sequence[PairResult]) -> dict[str, float]:
    """The main figures as bare numbers; what is undefined is left out."""
    known = [r.counts for r in rows if r.counts]
    matched, predicted, true = (sum(getattr(c, k) for c in known) for k in ("n_matched", "n_predicted", "n_true"))
    correct, states = (sum(getattr(c, k) for c in known) for k in ("n_states_correct", "n_states"))
    of_one, of_two = ([r.refused for r in rows if r.case.is_right is is_right] for is_right in (True, False))
    figures = {
        "match_f1": 2 * matched / (predicted + true) if predicted + true else math.nan,
        "state_accuracy": correct / states if states else math.nan,
        "right_answered": 1 - float(np.mean(of_one)) if of_one else math.nan,
        "wrong_refused": float(np.mean(of_two)) if of_two else math.nan,
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}
