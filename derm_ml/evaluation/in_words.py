"""An evaluation in sentences that need no statistics: how many were found, how many missed, how bad it could be.

sentences(evaluation, "recall_0.95")     at the operating point where the service decides
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.operating_points import proportion
from derm_ml.metrics.words import no_threshold, readable

ROUGH = 0.5  # a Dice below it: less than half of the two outlines is common
BALANCED = "balanced"


def sentences(evaluation: Evaluation, point: str = BALANCED) -> list[str]:
    """Sentences on an evaluation, most important first; none where nothing of the kind was measured.

    `point` is the operating point at which the service decides. Where classes exclude each other it answers the most
    likely one, and the sentences are about that.
    """
    columns = set(evaluation.predictions)
    if {"n_matched", "n_true", "n_predicted"} <= columns:
        return list(_pairs(evaluation))
    if {"dice", "tp", "fp"} <= columns:
        return list(_outlines(evaluation))
    if decides_by_rank(evaluation) and "group" in columns:
        return list(_most_likely(evaluation))
    return list(_at_point(evaluation, point))


def decides_by_rank(evaluation: Evaluation) -> bool:
    """Whether the service answers the most likely of several classes that exclude each other, not at a threshold."""
    return len(evaluation.labels) > 1 and "confusion_matrix" in evaluation.tables


def _at_point(evaluation: Evaluation, point: str) -> Iterator[str]:
    for label in evaluation.labels:
        found, spared = (
            evaluation.metrics.get(f"{word}_{label}_at_{point}") for word in ("sensitivity", "specificity")
        )
        if found is None or spared is None:
            continue
        if found.value is None or spared.value is None:
            why = found.note.partition(": ")[2] or found.note
            yield f"For {readable(label)} there is {no_threshold(point)}, where the service would decide: {why}."
            if point == BALANCED:
                continue
            found, spared = (
                evaluation.metrics.get(f"{word}_{label}_at_{BALANCED}") for word in ("sensitivity", "specificity")
            )
            if found is None or spared is None or found.value is None:
                continue
            yield "The service gives no decision. What follows is the balanced point, which it does not use."
        yield _found_and_missed(evaluation, label, found, spared)


def _most_likely(evaluation: Evaluation) -> Iterator[str]:
    table = evaluation.predictions
    names = list(evaluation.labels)
    p, y = (table[[f"{of}.{name}" for name in names]].to_numpy(float) for of in ("p", "target"))
    known = (np.isfinite(y).all(axis=1)) & (np.nansum(y, axis=1) == 1)
    guess, truth, groups = p[known].argmax(axis=1), y[known].argmax(axis=1), table["group"].to_numpy(str)[known]
    yield (
        "The service answers the most likely class, whatever its probability; thresholds (operating points) are "
        "further decisions beside it."
    )
    for k, label in enumerate(names):
        flagged, mine = guess == k, (truth == k).astype(float)
        both = (proportion(flagged, mine, groups, which) for which in (1, 0))
        yield _found_and_missed(evaluation, label, *both)


def _found_and_missed(evaluation: Evaluation, label: str, found: Metric, spared: Metric) -> str:
    of, others = f"cases of {readable(label)}", "other cases"
    rows = evaluation.tables.get("confusion_matrix", [])
    if len(evaluation.labels) == 1 and rows:  # malignant and benign: both have a name
        of, others = f"{readable(label)} cases", f"{readable(str(rows[0]['truth']))} cases"
    if found.value is None:
        said = f"There are no {of} to find"
    else:
        hits = round(found.value * found.n)
        said = f"Of {found.n} {of} the model found {hits} and missed {found.n - hits}"
    if spared.value is not None:
        said += f"; of {spared.n} {others} it flagged {spared.n - round(spared.value * spared.n)}"
    if found.low is not None:
        said += f". The true sensitivity could be as low as {100 * found.low:.0f} %"
    return f"{said}."


def _outlines(evaluation: Evaluation) -> Iterator[str]:
    table, dice = evaluation.predictions, evaluation.metrics["dice"]
    if dice.value is None:
        return
    low = f"; the true mean could be as low as {dice.low:.2f}" if dice.low is not None else ""
    yield (
        f"On average the outline overlaps the true one with a Dice of {dice.value:.2f}, where 1 is identical and 0 is "
        f"no common pixel{low}."
    )
    rough = int((table["dice"].to_numpy(float) < ROUGH).sum())
    yield f"In {rough} of {len(table)} images the Dice is below {ROUGH:g}: that outline is of little use."
    empty = evaluation.metrics.get("empty_predictions")
    if empty is not None and empty.value is not None:
        yield f"Of {empty.n} images with a lesion, {round(empty.value * empty.n)} got no outline at all."


def _pairs(evaluation: Evaluation) -> Iterator[str]:
    known = evaluation.predictions.dropna(subset=["n_matched", "n_true", "n_predicted"])
    matched, true, made = (int(known[name].to_numpy(float).sum()) for name in ("n_matched", "n_true", "n_predicted"))
    yield (
        f"Of {true} conditions that are on both photos the model matched {matched} rightly and missed {true - matched}"
        f"; of the {made} matches it made {made - matched} are wrong."
    )
    for name, what, good, bad in (
        ("wrong_refused", "pairs of two different people", "refused", "answered"),
        ("right_refused", "pairs of one person", "answered", "refused"),
    ):
        metric = evaluation.metrics.get(name)
        if metric is None or metric.value is None:
            continue
        refused = round(metric.value * metric.n)
        right = refused if good == "refused" else metric.n - refused
        yield f"Of {metric.n} {what} it {good} {right}, as it should, and {bad} {metric.n - right}."
