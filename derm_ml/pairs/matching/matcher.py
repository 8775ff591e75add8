"""Version 1: register, decide whether to answer at all, match within each label, name the state of every condition.

    matcher(pair) → Outcome: accepted or refused with its reason, matches with confidence, states

One-to-one, optimal, with a gate; confidence is calibrated on pairs whose truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from derm_ml.asking.pair import Pair, State
from derm_ml.images.geometry import outline, share_inside
from derm_ml.pairs.faces.identity import Likeness
from derm_ml.pairs.matching import candidates, evidence, hidden
from derm_ml.pairs.matching.assign import assign
from derm_ml.pairs.matching.logistic import Logistic, probability
from derm_ml.pairs.registration.register import NoRegistration, Registrar
from derm_ml.pairs.registration.registration import Registration
from derm_ml.records import Region

ALIKE = 0.035  # units: offsets of boxes this close say the same
MOST_VOTES = 400  # of the smallest offsets: a severe face has thousands of pairs of boxes


class Numbers(BaseModel):
    """Everything that was fitted, as plain numbers: it stands in bundle.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    match: Logistic  # candidates.NAMES → the same lesion
    hidden: Logistic  # hidden.NAMES → covered in the other photo
    same: Logistic  # evidence.NAMES → the same patient's skin
    same_threshold: float = Field(ge=0, le=1)  # below it the pair is refused
    gate: float = Field(0.5, ge=0, le=1)  # a match less likely than this is none
    plain: evidence.PlainlySame | None = None  # where the faces need not be asked; None: they always are

    @model_validator(mode="after")
    def _of_these_features(self) -> Self:
        for model, wanted in ((self.match, candidates.NAMES), (self.hidden, hidden.NAMES), (self.same, evidence.NAMES)):
            if model.names != wanted:
                raise ValueError(f"a regression on {', '.join(model.names)}, where {', '.join(wanted)} are measured")
        return self


@dataclass(frozen=True, slots=True)
class Match:
    """Box `first` of the first photo and box `second` of the second are one lesion, with calibrated `confidence`.

    `growth`: its area over what it would be unchanged. `distance` in units, `overlap` 0..1, as registered.
    """

    first: int
    second: int
    confidence: float
    growth: float
    distance: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Fate:
    """The state of one box, and how sure that is (0..1)."""

    state: State
    confidence: float


@dataclass(frozen=True)
class Outcome:
    """What is said of a pair. A refused one has a reason and neither matches nor states.

    `same` is the calibrated probability that both photos show the same skin, None where nothing could be registered.
    """

    accepted: bool
    reason: str
    same: float | None = None
    registration: Registration | None = None
    matches: tuple[Match, ...] = ()
    fates: tuple[tuple[Fate, ...], tuple[Fate, ...]] = ((), ())
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))


@dataclass(frozen=True)
class PairFeatures:
    """A registered pair and the features of everything that is decided about it."""

    registration: Registration
    shift: np.ndarray
    numbers: np.ndarray  # (C, 2)
    candidates: np.ndarray  # (C, F)
    hidden: tuple[np.ndarray, np.ndarray]  # (N, 4), (M, 4)
    inside: tuple[np.ndarray, np.ndarray]  # (N,), (M,): share of each box that the other photo's frame holds


def pair_features(pair: Pair, registration: Registration, any_label: bool = False) -> PairFeatures:
    """The features of a registered pair."""
    shift = common_shift(pair, registration)
    numbers, table = candidates.candidate_table(pair, registration, shift, any_label)
    compared = hidden.PhotoDifference(pair.first, pair.second, registration)
    sizes = [(p.shape[1], p.shape[0]) for p in pair.pictures]
    ends = [registration.forward(outline(r)) + shift for r in pair.first_regions]
    starts = [registration.backward(outline(r) - shift) for r in pair.second_regions]
    of_second = [_bounds(start, r) for start, r in zip(starts, pair.second_regions, strict=True)]
    return PairFeatures(
        registration,
        shift,
        numbers,
        table,
        (compared.features(pair.first_regions), compared.features(of_second)),
        (
            np.array([share_inside(e, *sizes[1]) for e in ends]),
            np.array([share_inside(s, *sizes[0]) for s in starts]),
        ),
    )


def common_shift(pair: Pair, registration: Registration) -> np.ndarray:
    """(2,) pixels by which all boxes of the second photo seem to be off, (0, 0) if too few say so.

    Annotators and exporters shift all boxes of a photo. Every candidate match votes for its offset; the offset most
    boxes agree on counts if they are at least four and more than half, and more than agree on none.
    """
    a, b = candidates.centres(pair.first_regions), candidates.centres(pair.second_regions)
    fewest = max(candidates.SETTLED, min(len(a), len(b)) // 2 + 1)
    if min(len(a), len(b)) < fewest:
        return np.zeros(2)
    labels = [np.array([r.label for r in regions]) for regions in pair.regions]
    off = (registration.backward(b)[None] - a[:, None]) / registration.unit
    off[labels[0][:, None] != labels[1][None]] = np.inf
    near = np.hypot(off[..., 0], off[..., 1])
    votes = off[near < candidates.FARTHEST]
    votes = np.vstack([np.zeros((1, 2)), votes[np.argsort(np.hypot(*votes.T))][:MOST_VOTES]])
    agree = np.array([(np.hypot(*(off - vote).transpose(2, 0, 1)) < ALIKE).any(axis=1).sum() for vote in votes])
    best = 0 if agree[0] >= agree.max() else int(agree.argmax())
    if agree[best] < fewest:
        return np.zeros(2)
    away = np.hypot(*(off - votes[best]).transpose(2, 0, 1))
    nearest = away.argmin(axis=1)
    rows = np.flatnonzero(away[np.arange(len(a)), nearest] < ALIKE)
    return np.median(b[nearest[rows]] - registration.forward(a[rows]), axis=0)


@dataclass(frozen=True)
class Matcher:
    """Answers pairs. `identity` may be None: the faces then are not compared."""

    registrar: Registrar
    numbers: Numbers
    identity: Likeness | None = None

    def __call__(self, pair: Pair) -> Outcome:
        """Register, decide, match. Never raises for a pair of decoded pictures: what cannot be done is a refusal."""
        try:
            registration = self.registrar(pair.first, pair.second)
        except NoRegistration as error:
            return Outcome(False, str(error))
        alike = evidence.face_likeness(pair, registration, self.identity)
        if self.numbers.plain:
            alike = self.numbers.plain.likeness(registration.evidence, alike)
        same = float(self.numbers.same(evidence.evidence_vector(registration.evidence, alike)[None])[0])
        if not same >= self.numbers.same_threshold:  # what is no number refuses too
            return Outcome(False, _reason(registration, same), same, registration)
        return self.decide(pair, pair_features(pair, registration), same)

    def decide(self, pair: Pair, measured: PairFeatures, same: float) -> Outcome:
        """Matches and states of a pair that is not refused."""
        shape = (len(pair.first_regions), len(pair.second_regions))
        logits = np.full(shape, -np.inf)
        rows = np.zeros(shape, int)
        if len(measured.numbers):
            i, j = measured.numbers.T
            logits[i, j] = self.numbers.match.logits(measured.candidates)
            rows[i, j] = np.arange(len(i))
        gate = float(np.log(self.numbers.gate / (1 - self.numbers.gate))) if 0 < self.numbers.gate < 1 else 0.0
        found = assign(logits - gate)
        matches = []
        for i, j in found:
            features = dict(zip(candidates.NAMES, measured.candidates[rows[i, j]], strict=True))
            expected = candidates.expected_box(pair.first_regions[i], measured.registration, measured.shift)
            matches.append(
                Match(
                    i,
                    j,
                    float(probability(logits[i, j])),
                    candidates.growth(pair.second_regions[j], expected),
                    float(features["distance"]),
                    float(features["overlap"]),
                )
            )
        of_first = {m.first: m for m in matches}
        of_second = {m.second: m for m in matches}
        best = [logits.max(axis=axis, initial=-np.inf) for axis in (1, 0)]
        fates = (
            self._fates(of_first, best[0], measured.hidden[0], measured.inside[0], "resolved"),
            self._fates(of_second, best[1], measured.hidden[1], measured.inside[1], "new"),
        )
        return Outcome(True, "", same, measured.registration, tuple(matches), fates, measured.shift)

    def _fates(
        self, matched: dict[int, Match], best: np.ndarray, covers: np.ndarray, inside: np.ndarray, alone: State
    ) -> tuple[Fate, ...]:
        covered = self.numbers.hidden(covers)
        fates = []
        for number in range(len(best)):
            if number in matched:
                fates.append(Fate("persistent", matched[number].confidence))
                continue
            unpaired = 1 - float(probability(best[number]))
            if inside[number] < 0.5:
                fates.append(Fate("not_visible", unpaired * float(1 - inside[number])))
            elif covered[number] >= 0.5:
                fates.append(Fate("not_visible", unpaired * float(covered[number])))
            else:
                fates.append(Fate(alone, unpaired * float(1 - covered[number])))
        return tuple(fates)


def _reason(registration: Registration, same: float) -> str:
    said = registration.evidence
    back = f"{said['returns']:.0%} of the points that are mapped to the other photo and back return"
    if said["returns"] < 0.5:
        return f"the registration is not good enough: only {back} (probability of the same skin {same:.2f})"
    return f"the two photos do not seem to show the same person or place (probability {same:.2f}; {back})"


def _bounds(polygon: np.ndarray, region: Region) -> Region:
    (x1, y1), (x2, y2) = polygon.min(axis=0), polygon.max(axis=0)
    return replace(region, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))
