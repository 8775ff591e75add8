"""Fits the numbers of version 1 on pairs whose truth is known.

measure every training pair → who is alike (identity, unless a network knows it) → is it one person (same) → is it one
lesion (match) → is it covered (hidden); then Platt, the gate and the threshold of refusal on what none of them has
seen: validation pairs, and each training pair as judged by what was fitted on the other people
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from derm_ml.asking.pair import Truth
from derm_ml.pairs.cases import Case, in_parallel
from derm_ml.pairs.faces.identity import FaceIdentity, Likeness, fit_identity, signature
from derm_ml.pairs.matching import candidates, evidence, hidden
from derm_ml.pairs.matching.assign import assign
from derm_ml.pairs.matching.logistic import Logistic, Rows, fit_and_calibrate, probability
from derm_ml.pairs.matching.matcher import Numbers, pair_features
from derm_ml.pairs.registration.register import DECISIVE, NoRegistration, Registrar
from derm_ml.records import DataError

Progress = Callable[[int, int], None]
Folds = Mapping[tuple[str, str], frozenset[int]]  # the people of a case → the folds they are in
FOLDS = 5  # of people: a wrong pair leaves two out, and the rest must still be enough to learn a likeness from
GATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
FEW = (
    30  # false candidates of one label; below it those of two labels are learned from as well; and pairs of two people
)
NEVER_HIDDEN = Logistic(  # where nothing in the training pairs was covered: everything inside the frame is visible
    names=hidden.NAMES, means=(0.0,) * 4, scales=(1.0,) * 4, weights=(0.0,) * 4, intercept=-6.0
)


@dataclass(frozen=True)
class Lesions:
    """The features and the truth of the boxes of one case, in the order of `Measured` and `Truth`."""

    numbers: np.ndarray  # (C, 2)
    candidates: np.ndarray  # (C, F)
    others: np.ndarray  # (O, F) candidates of two labels: never one lesion
    hidden: tuple[np.ndarray, np.ndarray]
    inside: tuple[np.ndarray, np.ndarray]
    truth: Truth


@dataclass(frozen=True)
class Seen:
    """What is kept of one measured case, some hundred kB: photos and flow take megabytes and are not needed again.

    `evidence` of its registration, None where nothing could be registered; `signatures` of its faces, and of the faces
    a mirror would show, `twins`, where a likeness is learned from them.
    """

    case: Case
    evidence: Mapping[str, float] | None = None
    signatures: tuple[np.ndarray, np.ndarray] | None = None
    twins: tuple[np.ndarray, np.ndarray] | None = None
    lesions: Lesions | None = None


def look(case: Case, registrar: Registrar, recognition: Likeness | None = None) -> Seen:
    """Register one case and measure what there is to learn from it."""
    pair, truth = case.load()
    try:
        registration = registrar(pair.first, pair.second)
    except NoRegistration:
        return Seen(case)
    lesions = None
    if truth:
        known = pair_features(pair, registration)
        numbers, table = candidates.candidate_table(pair, registration, known.shift, any_label=True)
        labels = [np.array([r.label for r in regions]) for regions in pair.regions]
        other = [labels[0][i] != labels[1][j] for i, j in numbers]
        others = table[np.array(other, bool)]
        judged = set(truth.judged((int(i), int(j)) for i, j in known.numbers))
        keep = np.array([(int(i), int(j)) in judged for i, j in known.numbers], bool)
        lesions = Lesions(known.numbers[keep], known.candidates[keep], others, known.hidden, known.inside, truth)
    faces = evidence.signatures(recognition.signature if recognition else signature, pair, registration)
    twins = None if recognition else evidence.signatures(signature, pair, registration, twins=True)
    return Seen(case, registration.evidence, faces, twins, lesions)


def fit_numbers(
    train: Sequence[Case],
    validation: Sequence[Case],
    registrar: Registrar,
    recognition: Likeness | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[Numbers, FaceIdentity | None]:
    """Measure both splits and fit: the numbers, and how faces are compared where `recognition` does not know it.

    Raises `DataError` if the training pairs hold too little to learn from.
    """
    total = len(train) + len(validation)
    seen = list(in_parallel(lambda c: look(c, registrar, recognition), train, lambda n: progress(n, total)))
    held = list(
        in_parallel(lambda c: look(c, registrar, recognition), validation, lambda n: progress(len(train) + n, total))
    )
    folds = _folds(seen)
    identity = None if recognition else _identity(seen)
    same, threshold = _fit_same(seen, held, recognition or identity, folds)
    plain = _plain([*seen, *held], recognition or identity)
    match, gate = _fit_match(seen, held, folds)
    cover = NEVER_HIDDEN
    covers = [Rows(folds[s.case.people], *_covers(s)) for s in seen], [Rows(frozenset(), *_covers(s)) for s in held]
    covered = np.concatenate([np.zeros(0), *(rows.y for rows in covers[0])])
    if min((covered == 1).sum(), (covered == 0).sum()) >= 5:
        cover, _ = fit_and_calibrate(hidden.NAMES, *covers)
    numbers = Numbers(match=match, hidden=cover, same=same, same_threshold=threshold, gate=gate, plain=plain)
    return numbers, identity


def _folds(seen: Sequence[Seen]) -> Folds:
    """People dealt into folds, so that nobody is judged by what was learned from them."""
    people = sorted({person for one in seen for person in one.case.people})
    fold = {person: k % FOLDS for k, person in enumerate(people)}
    return {one.case.people: frozenset(fold[person] for person in one.case.people) for one in seen}


def _identity(seen: Sequence[Seen]) -> FaceIdentity | None:
    """Learned from the people a source names, and as many again in the mirror: people are few, their photos many."""
    vectors, people, known = [], [], set()
    for one in seen:
        if one.case.kind == "generated" or not one.case.is_named or not one.case.is_right:
            continue
        for found, twin in ((one.signatures, ""), (one.twins, " in the mirror")):
            for vector, person in zip(found or (), one.case.people, strict=False):
                key = (person + twin, vector[:256].tobytes())
                if key not in known:
                    known.add(key)
                    vectors.append(vector)
                    people.append(person + twin)
    return fit_identity(np.array(vectors), people) if vectors else None


def _fit_same(
    seen: Sequence[Seen],
    held: Sequence[Seen],
    identity: Likeness | None,
    folds: Folds,
) -> tuple[Logistic, float]:
    """The probability of one person, and where it refuses.

    The identity was learned from the training people, so their likeness is measured by one that has not seen them.
    """
    strangers: dict[frozenset[int], Likeness | None] = dict.fromkeys(folds.values(), identity)
    for mine in strangers if isinstance(identity, FaceIdentity) else ():
        strangers[mine] = _identity([s for s in seen if not mine & folds[s.case.people]])
    known = [s for s in seen if s.evidence is not None]
    later = [s for s in held if s.evidence is not None]
    train = [_same_rows(s, folds[s.case.people], strangers[folds[s.case.people]]) for s in known]
    try:
        fitted, logits = fit_and_calibrate(
            evidence.NAMES, train, [_same_rows(s, frozenset(), identity) for s in later], strength=3.0, balanced=True
        )
    except ValueError as error:
        raise DataError(f"too few pairs of one and of two persons to learn a refusal from ({error})") from None
    asked = [(said, s.case.kind) for said, s in zip(logits, [*known, *later], strict=True) if said is not None]
    p = probability(np.concatenate([np.zeros(0), *(said for said, _ in asked)]))
    return fitted, _threshold(p, [kind for _, kind in asked])


def _plain(known: Sequence[Seen], identity: Likeness | None) -> evidence.PlainlySame | None:
    """Twice as many agreeing features as any two people had, and how alike the faces of one person usually are.

    None where there are too few pairs of two people, or of one, to say so.
    """
    faces = [s for s in known if s.evidence and s.signatures]
    most = [s.evidence["agreeing"] for s in faces if s.evidence and not s.case.is_right]
    right = [identity.alike(*s.signatures) for s in faces if identity and s.signatures and s.case.is_right]
    if min(len(most), len(right)) < FEW:
        return None
    return evidence.PlainlySame(agreeing=max(float(DECISIVE), 2 * max(most)), alike=float(np.median(right)))


def _same_rows(one: Seen, folds: frozenset[int], identity: Likeness | None) -> Rows:
    assert one.evidence is not None
    alike = identity.alike(*one.signatures) if identity and one.signatures else None
    return Rows(folds, evidence.evidence_vector(one.evidence, alike)[None], np.array([float(one.case.is_right)]))


def _threshold(p: np.ndarray, kinds: Sequence[str]) -> float:
    """Where as large a share of right pairs is refused as of wrong ones is answered; of equals the middle.

    Right pairs are of several kinds, and the hardest kind counts: a made second visit is never in doubt. A half where
    there are no pairs of two people, or of one, to find it on.
    """
    names = np.array(kinds)
    right = set(kinds) - {"wrong_person"}
    if not right or "wrong_person" not in kinds:
        return 0.5
    cuts = np.unique(np.concatenate([[0.02], p, [0.98]]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    worst = np.array([(p[names == "wrong_person"] >= c).mean() for c in middles])
    for kind in right:
        worst = np.maximum(worst, [(p[names == kind] < c).mean() for c in middles])
    return float(np.median(middles[worst <= worst.min() + 1e-9]))


def _fit_match(seen: Sequence[Seen], held: Sequence[Seen], folds: Folds) -> tuple[Logistic, float]:
    """The probability of one lesion, and the gate below which a match is none."""
    known = [(s.case, s.lesions) for s in seen if s.lesions]
    later = [s.lesions for s in held if s.lesions]
    train = [Rows(folds[case.people], lesions.candidates, _is_match(lesions)) for case, lesions in known]
    y = np.concatenate([np.zeros(0), *(rows.y for rows in train)])
    more: list[Rows] = []
    if (y == 0).sum() < FEW:  # few false ones: those of two labels are false too
        more = [Rows(folds[case.people], le.others, np.zeros(len(le.others))) for case, le in known]
    false = int((y == 0).sum()) + sum(len(rows.y) for rows in more)
    if min(y.sum(), false) < 5:
        raise DataError(
            f"{int(y.sum())} true and {false} false candidate matches in {len(seen)} training pairs: too few to "
            "calibrate a confidence; add pairs with boxes, or photos with boxes"
        )
    rows = [Rows(frozenset(), lesions.candidates, _is_match(lesions)) for lesions in later]
    match, logits = fit_and_calibrate(candidates.NAMES, [*train, *more], rows)
    unseen = [*logits[: len(train)], *logits[len(train) + len(more) :]]
    judged = zip([*(lesions for _, lesions in known), *later], unseen, strict=True)
    return match, _gate([(lesions, said) for lesions, said in judged if said is not None])


def _is_match(lesions: Lesions) -> np.ndarray:
    there = set(lesions.truth.matches)
    return np.array([float((int(i), int(j)) in there) for i, j in lesions.numbers])


def _gate(known: Sequence[tuple[Lesions, np.ndarray]]) -> float:
    """The probability below which a match is none: the one with the highest F1, of equals that nearest to a half."""
    scores = []
    for gate in GATES:
        right = said = there = 0
        for lesions, logits in known:
            table = np.full(tuple(len(side) for side in lesions.truth.states), -np.inf)
            if len(logits):
                table[tuple(lesions.numbers.T)] = logits - np.log(gate / (1 - gate))
            found, true = set(assign(table)), set(lesions.truth.matches)
            right, said, there = right + len(found & true), said + len(found), there + len(true)
        scores.append(2 * right / (said + there) if said + there else 0.0)
    best = [gate for gate, score in zip(GATES, scores, strict=True) if score == max(scores)]
    return min(best, key=lambda gate: abs(gate - 0.5))


def _covers(one: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Boxes whose place lies in the other photo: which of them are covered there."""
    x, y = [np.zeros((0, len(hidden.NAMES)))], [np.zeros(0)]
    if one.lesions and one.lesions.truth.covers_known:
        for table, inside, states in zip(one.lesions.hidden, one.lesions.inside, one.lesions.truth.states, strict=True):
            keep = (inside >= 0.6) & np.array([s is not None for s in states], bool)
            x.append(table[keep])
            y.append(np.array([float(s == "not_visible") for s in states])[keep])
    return np.concatenate(x), np.concatenate(y)
