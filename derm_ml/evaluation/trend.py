"""How models followed one another: what each reached on the test split and on recent patients, in order of time.

    with_trend(evaluation, recent, folder, "auc_mean")   with a figure, where a model was measured before this one
    split_number([*hashes, now])                         a number that steps where the split is another one

Values are comparable only where their split is the same. So every series says its split, a figure breaks its line
where that changes, and a plot of bare numbers has the number of the split beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derm_ml.evaluation.record import SUMMARY, Evaluation
from derm_ml.figures.trend import trend_figure
from derm_ml.metrics.glossary import metric_named
from derm_ml.model_folder import ModelFolder, model_folders
from derm_ml.records import RECENT

MOST = 20  # models of a figure: more marks on a line are not told apart
SHOWN_SPLITS = ("test", RECENT)
FIGURE = "trend"


@dataclass(frozen=True, slots=True)
class Reached:
    """What one model reached on one split, with its 95 % interval."""

    split_hash: str
    n: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class TrendStep:
    """One model of a trend, and what it reached on each split it was measured on, by the split's name."""

    name: str
    model_version: str
    reached: dict[str, Reached]


def with_trend(evaluation: Evaluation, recent: Evaluation | None, folder: ModelFolder, metric: str) -> Evaluation:
    """The evaluation of the model in `folder` with a figure of the models beside it and what they reached."""
    measured = [evaluation] if recent is None else [evaluation, recent]
    reached = {one.split: found for one in measured if (found := _of(one.summary(), metric))}
    now = TrendStep(folder.path.name, evaluation.model_version, reached)
    steps = [step for step in trend(folder.path.parent, metric) if step.model_version != now.model_version]
    if not steps or not reached:
        return evaluation
    steps = [*steps[1 - MOST :], now]
    splits = [split for split in SHOWN_SPLITS if any(split in step.reached for step in steps)]
    runs = {split: runs_of_one_split(steps, split) for split in splits}
    marks = {
        split: [(run[0][1].split_hash, [(x, r.value, r.low, r.high, r.n) for x, r in run]) for run in found]
        for split, found in runs.items()
    }
    caption = (
        "In the order in which they were measured, each with its 95 % interval. A line connects values on one and the "
        "same split; where the split is another one it breaks, and values on its two sides cannot be compared."
    )
    figure = trend_figure([s.name for s in steps], marks, metric_named(metric).title)
    return evaluation.with_figures({FIGURE: figure}, {FIGURE: caption})


def trend(models: Path, metric: str) -> list[TrendStep]:
    """The models below `models` that were measured on the test split, in the order in which they were.

    An evaluation that cannot be read, or leaves the metric undefined, is passed over: it has no place on a line.
    """
    found = []
    for folder in model_folders(models):
        try:
            stored = {split: _stored(folder.evaluation(split) / SUMMARY) for split in SHOWN_SPLITS}
            reached = {split: one for split, s in stored.items() if s and (one := _of(s, metric))}
            if "test" in reached:
                when = (folder.evaluation("test") / SUMMARY).stat().st_mtime
                found.append((when, TrendStep(folder.path.name, stored["test"]["model_version"], reached)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [step for _, step in sorted(found, key=lambda one: (one[0], one[1].name))]


def _stored(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _of(stored: Mapping[str, Any], metric: str) -> Reached | None:
    m = stored["metrics"].get(metric)
    if m is None or m["value"] is None:
        return None
    return Reached(stored["split_hash"], int(m["n"]), float(m["value"]), m["low"], m["high"])


def split_number(hashes: Iterable[str]) -> int:
    """The last of these hashes is the how-manieth different one, counted from 1 in their order; 0 where there is none.

    A split that comes back has the number it had: a delivery that was withdrawn leaves the split of before.
    """
    order: dict[str, int] = {}
    last = ""
    for last in hashes:
        order.setdefault(last, len(order) + 1)
    return order.get(last, 0)


def runs_of_one_split(steps: Sequence[TrendStep], split: str) -> list[list[tuple[int, Reached]]]:
    """The places on the axis with what was reached there, cut where the split changes.

    A model that was not measured on the split leaves a gap in the axis and cuts nothing.
    """
    runs: list[list[tuple[int, Reached]]] = []
    for place, step in enumerate(steps):
        now = step.reached.get(split)
        if now is None:
            continue
        if not runs or runs[-1][-1][1].split_hash != now.split_hash:
            runs.append([])
        runs[-1].append((place, now))
    return runs
