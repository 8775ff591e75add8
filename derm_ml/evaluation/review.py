"""What the champion says of a delivery before it is taken in: do its images show what the task is about, and do its
labels agree with what the champion sees?

    objections = reviewed(task, predictor, own, trial, ids)

A delivery of something else, or with exchanged labels, would be learned from without a word. The champion is no judge
of a camera or a clinic it never saw, though: whether it or the delivery is wrong, a person says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from derm_ml.contract import Predictor
from derm_ml.data.dataset import Dataset
from derm_ml.data.incoming import Objection
from derm_ml.evaluation.input_gate import ABSTAINED
from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.intervals import clopper_pearson
from derm_ml.metrics.metric import Metric
from derm_ml.records import Problem
from derm_ml.task import Task

LOOKED_AT = 400  # images of a delivery: the interval of an AUC is then about as wide as that of a test split
UNLIKE = 0.5  # share of a delivery that the model abstains from; another camera's stays below (docs/results.md)


def reviewed(task: Task, predictor: Predictor, own: Evaluation, trial: Dataset, ids: Sequence[str]) -> list[Objection]:
    """What speaks against a delivery; empty where nothing does, or nothing of it would be trained on.

    `own` is the champion's evaluation on its own test split, `trial` the dataset with the delivery, `ids` the
    delivery's images in it. At most `LOOKED_AT` of those in the training split are asked about, drawn by their number
    alone. An objection needs a whole 95 % interval on the wrong side: the exact one of the share that the champion
    abstains from, and that of the difference of its primary metric here and on its own test split.
    """
    rows = trial.split("train")
    rows = rows[rows["id"].isin(list(ids))]
    if rows.empty:
        return []
    rows = rows.sample(min(LOOKED_AT, len(rows)), random_state=0).sort_index()
    told = task.repeat(predictor, trial, rows["id"].tolist(), "train")
    found: list[Objection] = []
    if ABSTAINED in told:
        found += _unlike(told["id"][told[ABSTAINED].to_numpy(bool)].astype(str).tolist(), len(told))
    metric = task.recount(predictor.card, told, trial, "train").get(task.primary_metric)
    return found + _disagreeing(task, metric, own.metrics.get(task.primary_metric))


def _unlike(ids: Sequence[str], n: int) -> list[Objection]:
    low, _ = clopper_pearson(len(ids), n)
    if low <= UNLIKE:
        return []
    said = (
        f"the champion abstains from {len(ids)} of the {n} images it was asked about: they are unlike what it learned"
    )
    return [Objection(said, tuple(Problem(i, "unlike the images the champion was trained on") for i in ids))]


def _disagreeing(task: Task, here: Metric | None, own: Metric | None) -> list[Objection]:
    if here is None or own is None or here.value is None or here.high is None or own.value is None or own.low is None:
        return []
    # the lower end of the difference of two independent estimates, from their own intervals (Zou & Donner 2008)
    lost = own.value - here.value
    if lost - math.hypot(own.value - own.low, here.high - here.value) <= 0:
        return []
    said = (
        f"the champion and the labels disagree: {metric_named(task.primary_metric).title} is {here.value:.3f} "
        f"({here.low:.3f} to {here.high:.3f}, n = {here.n}), on its own test split {own.value:.3f} ({own.low:.3f} to "
        f"{own.high:.3f}, n = {own.n}); labels may be exchanged, or the images are of another kind"
    )
    return [Objection(said)]
