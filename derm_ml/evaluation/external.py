"""External validation: a model measured on a dataset it does not come from, beside what it reached on its own test
split. The model is asked as it is: its thresholds stay.

    shown = as_external(evaluation, card, own, seen)      with a note and a table
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from derm_ml.bundles.bundle import BundleCard
from derm_ml.evaluation.notes import apart
from derm_ml.evaluation.record import Evaluation, Row

TABLE = "external_validation"


def as_external(evaluation: Evaluation, card: BundleCard, own: Evaluation | None, seen: int | None) -> Evaluation:
    """The evaluation, saying that it is external and how it compares with the `own` test split.

    `seen`: how many of its images are among those the model was made with; None where that cannot be told.
    """
    fitted = "were fitted on local cases" if card.local_cases else "are those of its own validation split"
    words = (
        f"External validation: the {evaluation.split} split of dataset {evaluation.dataset_md5[:12]}, which the model "
        f"does not come from (it was trained on {card.dataset_md5[:12]}). Its thresholds {fitted}."
    )
    if seen is None:
        words += " The dataset it was trained on is not on this machine: whether images are in both was not checked."
    elif seen:
        words += f" {seen} of the {evaluation.n} images are also in its training or validation split: they flatter."
    else:
        words += " None of its images is in the model's training or validation split."
    notes = [note for note in evaluation.notes if note != apart(card, evaluation.split)]
    shown = replace(evaluation, title=f"{evaluation.title} · external validation", notes=(words, *notes))
    if own is None:
        return replace(
            shown, notes=(*shown.notes, "Its own test split was not evaluated: there is nothing to compare.")
        )
    caption = (
        "What the model reaches here, beside its own test split. Other cases, so a difference may come from the cases "
        "as well as from the model; where both intervals overlap it may be chance."
    )
    return replace(
        shown,
        tables={TABLE: _beside(own, evaluation), **evaluation.tables},
        captions={**evaluation.captions, TABLE: caption},
    )


def _beside(own: Evaluation, other: Evaluation) -> list[Row]:
    rows: list[Row] = []
    for name, here in other.metrics.items():
        there = own.metrics.get(name)
        if here.value is None or there is None or there.value is None:
            continue
        rows.append(
            {
                "metric": name,
                "own test split": there.value,
                "own 95 % interval": _interval(there),
                "external": here.value,
                "external 95 % interval": _interval(here),
                "difference": here.value - there.value,
            }
        )
    return rows


def _interval(metric: Any) -> str | None:
    return None if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
