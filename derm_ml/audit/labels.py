"""Likely label errors by confident learning (Northcutt, Jiang & Chuang 2021, doi:10.1613/jair.1.12125).

    doubts = doubt(vectors, targets, groups)          # every image by every label it was judged for
    doubts.score, doubts.flagged, doubts.suggested

Each label is predicted by a model that has not seen the image, its patient, its lesion or its duplicates (logistic
regression, out of fold). Where that model is surer of another label than it is on average of the images that carry
it, the image is in doubt. The score is the margin: probability of the other label minus that of the given one.

The method is these few lines of numpy; `cleanlab`, by the same authors, would add a package for the little used of it.

A label is called into doubt only where labels follow from what is compared: where the out-of-fold AUC is below
`SEPARATED`, to be unlike its class is no evidence against an image, and the scores are a ranking and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from derm_ml.audit.numbers import standardised
from derm_ml.metrics.classification import mean_roc_auc
from derm_ml.metrics.metric import Metric, undefined

FOLDS = 5
REPEATS = 2  # other folds each time: a probability then hangs less on who was in which
FEWEST = 2 * FOLDS  # images of a class: below it a fold may hold none to learn from
STRENGTH = 0.05  # inverse of the L2 penalty: 150 numbers and a few hundred images need a strong one
CLEAR_MARGIN = 0.5  # probability: the other label is clearly likelier; below it lie the hard but right cases
# out-of-fold AUC: with a tenth of the labels wrong and classes that are told apart without fail it is still 0.9
SEPARATED = 0.85
SEED = 0


@dataclass(frozen=True, eq=False)
class Doubts:
    """Of N images: `score` (N,) -1..1, NaN where not judged; `flagged` (N,) bool; `given` and `suggested`, labels.

    `separated`: for each question (`label`, or a label's name where they are independent) its out-of-fold AUC.
    `unjudged`: labels with too few images, and why.
    """

    score: np.ndarray
    flagged: np.ndarray
    given: tuple[str, ...]
    suggested: tuple[str, ...]
    separated: dict[str, Metric]
    unjudged: tuple[str, ...]


def is_separable(separated: Metric) -> bool:
    """Whether labels follow from what is compared, so that one that does not is in doubt."""
    return separated.value is not None and separated.value >= SEPARATED


def doubt(
    vectors: np.ndarray, targets: np.ndarray, labels: tuple[str, ...], groups: np.ndarray, negative: str = "none"
) -> Doubts:
    """vectors (N, D), targets (N, L) of 1, 0 and NaN, groups (N,): images that must not be in two folds.

    Labels of which every image carries exactly one are judged against each other, others one by one.
    """
    points = standardised(vectors) if len(vectors) else vectors
    known = ~np.isnan(targets)
    if len(labels) > 1 and known.any() and (targets[known.all(axis=1)].sum(axis=1) == 1).all():
        rows = np.flatnonzero(known.all(axis=1))
        questions = [_Question("label", rows, targets[rows].argmax(axis=1), labels, np.zeros((len(points), 0)))]
    else:
        questions = [
            _Question(
                name,
                np.flatnonzero(known[:, k]),
                targets[known[:, k], k].astype(int),
                (negative if len(labels) == 1 else f"not {name}", name),
                np.nan_to_num(2 * np.delete(targets, k, axis=1) - 1),
            )
            for k, name in enumerate(labels)
        ]
    answers = [_answered(np.hstack([points, q.beside]), q, groups) for q in questions]
    return _joined(len(vectors), answers)


@dataclass(frozen=True, eq=False)
class _Question:
    """Which images are judged, the class each carries (a place in `names`), and what the classes are called.

    `beside` (N, L - 1): the other labels of every image, -1, 0 (not known) or 1; what is normal has no finding.
    """

    name: str
    rows: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    beside: np.ndarray


@dataclass(frozen=True, eq=False)
class _Answer:
    question: _Question
    score: np.ndarray
    flagged: np.ndarray
    other: np.ndarray
    separated: Metric
    unjudged: tuple[str, ...]


def _answered(points: np.ndarray, question: _Question, groups: np.ndarray) -> _Answer:
    counts = np.bincount(question.classes, minlength=len(question.names))
    members = [len(np.unique(groups[question.rows[question.classes == k]])) for k in range(len(question.names))]
    small = [k for k in range(len(question.names)) if counts[k] < FEWEST or members[k] < FOLDS]
    unjudged = tuple(
        f"{question.names[k]}: {counts[k]} images in {members[k]} groups, at least {FEWEST} in {FOLDS} are needed"
        for k in small
        if counts[k]
    )
    kept = ~np.isin(question.classes, small)
    rows, classes = question.rows[kept], question.classes[kept]
    names, places = np.unique(classes, return_inverse=True)
    question = replace(question, rows=rows, classes=classes)
    if len(names) < 2:
        nothing = np.zeros(0)
        empty = replace(question, rows=rows[:0], classes=classes[:0])
        why = undefined(len(question.rows), "no two labels have enough images to be distinguished")
        return _Answer(empty, nothing, nothing > 0, nothing.astype(int), why, unjudged)
    probabilities = _out_of_fold(points[rows], places, groups[rows])
    score, other, flagged = confident_learning(probabilities, places)
    separated = mean_roc_auc(probabilities, np.eye(len(names))[places], groups[rows])
    return _Answer(question, score, flagged & is_separable(separated), names[other], separated, unjudged)


def _out_of_fold(points: np.ndarray, classes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(N, K) probabilities, each by models that saw neither the image nor another of its group."""
    found = np.zeros((len(points), classes.max() + 1))
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED + repeat)
        for learn, ask in folds.split(points, classes, groups):
            if len(np.unique(classes[learn])) < 2:  # all groups of a class fell into one fold
                found[ask, classes[learn][0]] += 1 / REPEATS
                continue
            model = LogisticRegression(C=STRENGTH, max_iter=500).fit(points[learn], classes[learn])
            found[np.ix_(ask, model.classes_)] += model.predict_proba(points[ask]) / REPEATS
    return found


def confident_learning(probabilities: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, K) out-of-fold probabilities and the given classes (N,) → margin (N,), the likeliest other class (N,), and
    which labels are in doubt: off the diagonal of the confident joint, by a clear margin."""
    rows = np.arange(len(classes))
    own = probabilities[rows, classes]
    others = probabilities.copy()
    others[rows, classes] = -1
    other = others.argmax(axis=1)
    margin = others[rows, other] - own
    usual = np.array([probabilities[classes == k, k].mean() for k in range(probabilities.shape[1])])
    confident = np.where(probabilities >= usual, probabilities, -1)
    counted = np.where(confident.max(axis=1) >= 0, confident.argmax(axis=1), classes)
    return margin, other, (counted != classes) & (counted == other) & (margin >= CLEAR_MARGIN)


def _joined(n: int, answers: list[_Answer]) -> Doubts:
    """Each image by the label it is most in doubt for."""
    score, flagged = np.full(n, np.nan), np.zeros(n, bool)
    given, suggested = [""] * n, [""] * n
    for answer in answers:
        names = answer.question.names
        for place, row in enumerate(answer.question.rows):
            flagged[row] |= answer.flagged[place]
            if np.isnan(score[row]) or answer.score[place] > score[row]:
                score[row] = answer.score[place]
                given[row], suggested[row] = names[answer.question.classes[place]], names[answer.other[place]]
    unjudged = tuple(why for answer in answers for why in answer.unjudged)
    separated = {answer.question.name: answer.separated for answer in answers}
    return Doubts(score, flagged, tuple(given), tuple(suggested), separated, unjudged)
