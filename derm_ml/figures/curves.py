"""How well scores tell apart: ROC with its band, precision-recall, score histograms.

Each function takes probabilities and targets (N, L) with NaN for unknown targets, and returns a PNG (bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from derm_ml.figures.style import DASHES, GRID, INK, SOFT, blank, drawing, looks_of
from derm_ml.metrics.classification import known, precision_recall_curve, roc_curve
from derm_ml.metrics.intervals import draws
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.words import readable

BAND_RESAMPLES = 300  # the band is looked at, not read off
_GRID = np.linspace(0, 1, 101)


def roc_figure(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[str] | np.ndarray,
    areas: dict[str, Metric] | None = None,
    task_labels: Sequence[str] = (),
) -> bytes:
    """One ROC curve a label with the band that holds, at each point, 95 % of resampled patients.

    `areas` label → its AUC, for the legend; `task_labels` all labels of the task, if more: their places give the
    colours. A label without positives or negatives is left out.
    """
    shown = [k for k in range(len(labels)) if {0.0, 1.0} <= set(targets[known(targets[:, k]), k])]
    if not shown:
        return blank("No label has both positives and negatives: there is no ROC curve.")
    with drawing(4.8, 4.9) as picture:
        ax = picture.axes[0]
        ax.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
        ax.annotate("chance", (0.6, 0.585), rotation=45, rotation_mode="anchor", color=SOFT, fontsize=8, va="top")
        looks = looks_of(task_labels or labels)
        for k in shown:
            colour, dashes = looks[labels[k]]
            keep = known(targets[:, k])
            false_rate, true_rate, _ = roc_curve(probabilities[:, k], targets[:, k])
            band = _band(_sensitivity_at, probabilities[keep, k], targets[keep, k], np.asarray(groups)[keep])
            if band is not None:
                ax.fill_between(_GRID, *band, color=colour, alpha=0.13, linewidth=0)
            name = _with_area(labels[k], (areas or {}).get(labels[k]))
            ax.plot(false_rate, true_rate, color=colour, linestyle=dashes, label=name)
        ax.set(
            xlabel="1 − specificity", ylabel="Sensitivity", xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal"
        )
        ax.legend(loc="lower right", handlelength=2.6)
    return picture.png


def precision_recall_figure(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    areas: dict[str, Metric] | None = None,
    groups: Sequence[str] | np.ndarray | None = None,
    task_labels: Sequence[str] = (),
) -> bytes:
    """One precision-recall curve a label; the thin line of the same colour is its chance level, the prevalence.

    With `groups` (N,) patients, the band that holds, at each point, 95 % of resampled patients.
    """
    shown = [k for k in range(len(labels)) if {0.0, 1.0} <= set(targets[known(targets[:, k]), k])]
    if not shown:
        return blank("No label has both positives and negatives: there is no precision-recall curve.")
    with drawing(4.8, 4.9) as picture:
        ax = picture.axes[0]
        looks = looks_of(task_labels or labels)
        for k in shown:
            colour, dashes = looks[labels[k]]
            recall, precision = precision_recall_curve(probabilities[:, k], targets[:, k])
            keep = known(targets[:, k])
            band = (
                None
                if groups is None
                else _band(_precision_at, probabilities[keep, k], targets[keep, k], np.asarray(groups)[keep])
            )
            if band is not None:
                ax.fill_between(_GRID, *band, color=colour, alpha=0.13, linewidth=0)
            name = _with_area(labels[k], (areas or {}).get(labels[k]))
            ax.step(
                np.r_[0, recall],
                np.r_[precision[0], precision],
                where="pre",
                color=colour,
                linestyle=dashes,
                label=name,
            )
            prevalence = float((targets[known(targets[:, k]), k] == 1).mean())
            ax.axhline(prevalence, color=colour, linewidth=0.8, alpha=0.55)
        ax.set(xlabel="Recall (sensitivity)", ylabel="Precision (positive predictive value)")
        ax.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), handlelength=2.6)
    return picture.png


def score_histogram(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    thresholds: dict[str, dict[str, float]] | None = None,
    task_labels: Sequence[str] = (),
) -> bytes:
    """For each label the probabilities of its positives and of the rest; `thresholds` label → name → threshold."""
    edges, looks = np.linspace(0, 1, 26).tolist(), looks_of(task_labels or labels)
    with drawing(8.6, 1.0 + 1.75 * len(labels), rows=len(labels), sharex=True) as picture:
        for k, (ax, label) in enumerate(zip(picture.axes, labels, strict=True)):
            keep = known(targets[:, k])
            p, y = probabilities[keep, k], targets[keep, k]
            for mark, value, colour in (("without", 0, GRID), ("with", 1, looks[label][0])):
                part = p[y == value]
                shares = np.ones(len(part)) / max(1, len(part))
                edge = SOFT if value == 0 else colour
                ax.hist(
                    part,
                    edges,
                    weights=shares,
                    color=colour,
                    alpha=0.85 - 0.25 * value,
                    edgecolor=edge,
                    linewidth=0.7,
                    histtype="stepfilled",
                    label=f"{mark} (n = {len(part)})",
                )
            lines = (thresholds or {}).get(label, {})
            for place, (name, threshold) in enumerate(sorted(lines.items(), key=lambda item: item[1])):
                ax.axvline(
                    threshold, color=INK, linewidth=1, linestyle=DASHES[place % len(DASHES)], label=readable(name)
                )
            ax.set_title(readable(label))
            ax.set(ylabel="Share of cases", xlim=(0, 1))
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        picture.axes[-1].set_xlabel("Predicted probability")
    return picture.png


def _sensitivity_at(found: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Sensitivity at each of 101 false positive rates."""
    return np.interp(_GRID, np.r_[0, false / false[-1]], np.r_[0, found / found[-1]])


def _precision_at(found: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Precision where each of 101 recalls is first reached: a step, not a line, joins two points of this curve."""
    first = np.searchsorted(found / found[-1], _GRID - 1e-9)
    return (found / np.maximum(found + false, 1e-9))[first]


def _band(
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray], scores: np.ndarray, targets: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Lower and upper `curve(found, false)` over resampled patients; None where there are too few."""
    if len(np.unique(groups)) < 2:
        return None
    order = np.argsort(-scores, kind="stable")
    positive = targets[order] == 1
    last = np.r_[np.diff(scores[order]) != 0, True]  # equal scores are one point of the curve
    curves = []
    for weights in draws(groups, BAND_RESAMPLES, seed=0):
        for row in weights[:, order]:
            found, false = np.cumsum(row * positive)[last], np.cumsum(row * ~positive)[last]
            if found[-1] and false[-1]:
                curves.append(curve(found, false))
    if len(curves) < BAND_RESAMPLES / 2:
        return None
    low, high = np.percentile(curves, [2.5, 97.5], axis=0)
    return low, high


def _with_area(label: str, area: Metric | None) -> str:
    if area is None or area.value is None:
        return readable(label)
    interval = f" ({area.low:.2f}–{area.high:.2f})" if area.low is not None and area.high is not None else ""
    return f"{readable(label)}  {area.value:.3f}{interval}"
