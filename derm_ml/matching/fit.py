"""Fits the numbers of version 1 on pairs whose truth is known.

measure every training pair → who is alike (identity) → is it one person (same) → is it one lesion (match)
→ is it covered (hidden); then Platt and the threshold of refusal on what none of them has seen
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from derm_ml.faces.identity import Identity, fit_identity
from derm_ml.matching import candidates, evidence, hidden
from derm_ml.matching.assign import assign
from derm_ml.matching.cases import Case, Kind, in_parallel
from derm_ml.matching.logistic import Logistic, calibrated, fit_logistic
from derm_ml.matching.matcher import Measured, Numbers, measure
from derm_ml.pairs import Truth
from derm_ml.records import DataError
from derm_ml.registration.register import NoRegistration, Registrar, Registration

Progress = Callable[[int, int], None]
FOLDS = 4  # of people, so that nobody's likeness is measured by what was learned from them
GATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
FEW = 30  # false candidates of one label; below it those of two labels are learned from as well
NOTHING = np.zeros((0, len(candidates.NAMES)))
NEVER_HIDDEN = Logistic(  # where nothing in the training pairs was covered: everything inside the frame is visible
    names=hidden.NAMES, means=(0.0,) * 4, scales=(1.0,) * 4, weights=(0.0,) * 4, intercept=-6.0
)


@dataclass(frozen=True)
class Seen:
    """One measured case: `signatures` of its faces, `measured` where its truth is known."""

    case: Case
    registration: Registration | None
    signatures: tuple[np.ndarray, np.ndarray] | None
    measured: Measured | None
    truth: Truth | None
    others: np.ndarray  # (O, F) candidates of two labels: never one lesion


def look(case: Case, registrar: Registrar) -> Seen:
    """Register one case and measure what there is to learn from it."""
    pair, truth = case.load()
    try:
        registration = registrar(pair.first, pair.second)
    except NoRegistration:
        return Seen(case, None, None, None, truth, NOTHING)
    known = measure(pair, registration) if truth else None
    others = NOTHING
    if known is not None:
        numbers, table = candidates.candidate_table(pair, registration, known.shift, any_label=True)
        labels = [np.array([r.label for r in regions]) for regions in pair.regions]
        if len(numbers):
            others = table[labels[0][numbers[:, 0]] != labels[1][numbers[:, 1]]]
    return Seen(case, registration, evidence.signatures(pair, registration), known, truth, others)


def fit_numbers(
    train: Sequence[Case], validation: Sequence[Case], registrar: Registrar, progress: Progress = lambda *_: None
) -> tuple[Numbers, Identity | None]:
    """Measure both splits and fit. Raises `DataError` if the training pairs hold too little to learn from."""
    total = len(train) + len(validation)
    seen = list(in_parallel(lambda c: look(c, registrar), train, lambda n: progress(n, total)))
    held = list(in_parallel(lambda c: look(c, registrar), validation, lambda n: progress(len(train) + n, total)))
    identity = _identity(seen)
    same, threshold = _fit_same(seen, held, identity)
    x, y = _candidates(seen)
    if min((y == 1).sum(), (y == 0).sum()) < 5:
        raise DataError(
            f"{int((y == 1).sum())} true and {int((y == 0).sum())} false candidate matches in {len(train)} training "
            "pairs: too few to calibrate a confidence; add pairs with boxes, or photos with boxes"
        )
    match = calibrated(fit_logistic(candidates.NAMES, x, y), *_candidates(held))
    covers, covered = _covers(seen)
    cover = NEVER_HIDDEN
    if min((covered == 1).sum(), (covered == 0).sum()) >= 5:
        cover = fit_logistic(hidden.NAMES, covers, covered)
    gate = _gate(match, [*seen, *held])
    return Numbers(match=match, hidden=cover, same=same, same_threshold=threshold, gate=gate), identity


def _identity(seen: Sequence[Seen]) -> Identity | None:
    vectors, people, known = [], [], set()
    for one in seen:
        if one.signatures is None:
            continue
        for vector, person in zip(one.signatures, one.case.people, strict=True):
            key = (person, vector[:256].tobytes())
            if person and key not in known and one.case.kind != "generated":
                known.add(key)
                vectors.append(vector)
                people.append(person)
    return fit_identity(np.array(vectors), people) if vectors else None


def _fit_same(seen: Sequence[Seen], held: Sequence[Seen], identity: Identity | None) -> tuple[Logistic, float]:
    """The probability of one person, and where it refuses.

    The identity was learned from the training people, so their likeness is measured by one that has not seen them.
    """
    people = sorted({p for one in seen for p in one.case.people})
    rows, kinds = [], []
    for fold in (set(people[k::FOLDS]) for k in range(FOLDS)):
        other = _identity([s for s in seen if not fold & set(s.case.people)]) if identity else None
        mine = [s for s in seen if s.case.people[0] in fold and s.registration]
        rows += [_evidence(s, other) for s in mine]
        kinds += [s.case.kind for s in mine]
    x = np.array(rows).reshape(-1, len(evidence.NAMES))
    y = np.array([float(kind != "wrong_person") for kind in kinds])
    try:
        fitted = fit_logistic(evidence.NAMES, x, y, strength=0.3, balanced=True)
    except ValueError as error:
        raise DataError(f"too few pairs of one and of two persons to learn a refusal from ({error})") from None
    later = [s for s in held if s.registration]
    xs = np.array([_evidence(s, identity) for s in later]).reshape(-1, len(evidence.NAMES))
    return fitted, _threshold(np.concatenate([fitted(x), fitted(xs)]), kinds + [s.case.kind for s in later])


def _evidence(one: Seen, identity: Identity | None) -> np.ndarray:
    assert one.registration
    alike = identity.alike(*one.signatures) if identity and one.signatures else None
    return evidence.evidence(one.registration, alike)


def _threshold(p: np.ndarray, kinds: Sequence[Kind]) -> float:
    """Where as large a share of right pairs is refused as of wrong ones is answered; of equals the middle.

    Right pairs are of several kinds, and the hardest kind counts: a made second visit is never in doubt.
    """
    names = np.array(kinds)
    cuts = np.unique(np.concatenate([[0.02], p, [0.98]]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    shares = [(p[names == "wrong_person"] >= c).mean() for c in middles]
    worst = np.array(shares)
    for kind in set(names) - {"wrong_person"}:
        worst = np.maximum(worst, [(p[names == kind] < c).mean() for c in middles])
    return float(np.median(middles[worst <= worst.min() + 1e-9]))


def _candidates(seen: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
    x, y = [np.zeros((0, len(candidates.NAMES)))], [np.zeros(0)]
    for one in seen:
        if one.measured is not None and one.truth is not None:
            there = set(one.truth.matches)
            x.append(one.measured.candidates)
            y.append(np.array([float((int(i), int(j)) in there) for i, j in one.measured.numbers]))
    if np.concatenate(y).size - np.concatenate(y).sum() < FEW:  # few false ones: those of two labels are false too
        x += [one.others for one in seen]
        y += [np.zeros(len(one.others)) for one in seen]
    return np.concatenate(x), np.concatenate(y)


def _gate(match: Logistic, seen: Sequence[Seen]) -> float:
    """The probability below which a match is none: the one with the highest F1, of equals that nearest to a half."""
    known = [(s.measured, s.truth) for s in seen if s.measured is not None and s.truth is not None]
    scores = []
    for gate in GATES:
        right = said = there = 0
        for measured, truth in known:
            found = set(assign(gains(match, measured, gate, truth)))
            right, said, there = (
                right + len(found & set(truth.matches)), said + len(found), there + len(truth.matches)
            )  # fmt: skip
        scores.append(2 * right / (said + there) if said + there else 0.0)
    best = [gate for gate, score in zip(GATES, scores, strict=True) if score == max(scores)]
    return min(best, key=lambda gate: abs(gate - 0.5))


def gains(match: Logistic, measured: Measured, gate: float, truth: Truth) -> np.ndarray:
    """(N, M): by how much the log-odds of each candidate match exceed the gate's; −inf where there is none."""
    table = np.full(tuple(len(side) for side in truth.states), -np.inf)
    if len(measured.numbers):
        i, j = measured.numbers.T
        table[i, j] = match.logits(measured.candidates) - np.log(gate / (1 - gate))
    return table


def _covers(seen: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes whose place lies in the other photo: which of them are covered there."""
    x, y = [np.zeros((0, len(hidden.NAMES)))], [np.zeros(0)]
    for one in seen:
        if one.measured is None or one.truth is None or one.case.kind != "generated":
            continue
        for table, inside, states in zip(one.measured.hidden, one.measured.inside, one.truth.states, strict=True):
            keep = inside >= 0.6
            x.append(table[keep])
            y.append(np.array([float(s == "not_visible") for s in states])[keep])
    return np.concatenate(x), np.concatenate(y)
