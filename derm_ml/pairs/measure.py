"""What a predictor says of cases, held against their truth: one row a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from derm_ml.asking.pair import Pair, Truth
from derm_ml.metrics.matching import Counts, count
from derm_ml.pairs.cases import Case, in_parallel
from derm_ml.pairs.matching.matcher import Outcome


class Answers(Protocol):
    """Anything that answers pairs."""

    def __call__(self, pair: Pair) -> Outcome: ...


@dataclass(frozen=True)
class Row:
    """One measured case. `counts` is None where the truth is not known; a refused pair has said nothing.

    `errors` (N,): how far each lesion is from where it should be, in units; `confidences` pairs (confidence, right).
    `baselines` holds the counts of other methods on the same pair.
    """

    case: Case
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


def measure_cases(
    predictor: Answers,
    of: Sequence[Case],
    baselines: dict[str, Callable[[Pair], Sequence[tuple[int, int]]]] | None = None,
    progress: Callable[[int], None] = lambda _: None,
    numbers: Callable[[Pair, Outcome], dict[str, float]] = lambda _pair, _outcome: {},
) -> list[Row]:
    """Ask every case. `baselines` are matchings without refusal or states, counted on pairs of known truth."""

    def one(case: Case) -> Row:
        pair, truth = case.load()
        outcome = predictor(pair)
        row = _row(case, outcome, truth, numbers(pair, outcome))
        if truth is not None:
            for name, matching in (baselines or {}).items():
                row.baselines[name] = count(truth.judged(matching(pair)), truth.matches)
        return row

    return list(in_parallel(one, of, progress))


def _row(case: Case, outcome: Outcome, truth: Truth | None, answer: dict[str, float]) -> Row:
    refused = not outcome.accepted
    if truth is None:
        return Row(case, refused, outcome.reason, outcome.same, None, answer=answer)
    judged = set(truth.judged((m.first, m.second) for m in outcome.matches))
    every = [s for side in truth.states for s in side]
    told = ["refused"] * len(every) if refused else [f.state for side in outcome.fates for f in side]
    states = [(true, said) for true, said in zip(every, told, strict=True) if true is not None]
    right = set(truth.matches)
    return Row(
        case,
        refused,
        outcome.reason,
        outcome.same,
        count(judged, truth.matches, [said for _, said in states], [true for true, _ in states]),
        tuple(_errors(outcome, truth)),
        tuple((m.confidence, pair in right) for m in outcome.matches if (pair := (m.first, m.second)) in judged),
        {k: v for k, v in truth.parameters.items() if isinstance(v, float | int)},
        {},
        tuple(states),
        answer,
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


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """The main figures as bare numbers; what is undefined is left out."""
    known = [r.counts for r in rows if r.counts]
    right, said, there = (sum(getattr(c, k) for c in known) for k in ("right", "said", "there"))
    states_right, states = (sum(getattr(c, k) for c in known) for k in ("states_right", "states"))
    of_one, of_two = ([r.refused for r in rows if r.case.is_right is is_right] for is_right in (True, False))
    figures = {
        "match_f1": 2 * right / (said + there) if said + there else math.nan,
        "state_accuracy": states_right / states if states else math.nan,
        "right_answered": 1 - float(np.mean(of_one)) if of_one else math.nan,
        "wrong_refused": float(np.mean(of_two)) if of_two else math.nan,
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}
