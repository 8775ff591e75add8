"""Pictures of embeddings: the t-SNE map, precision among neighbours. Each returns a PNG (bytes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from derm_ml.figures.style import GRID, SERIES, SOFT, drawing, looks_of
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.words import readable

RIGHT, WRONG = "#b9c2cc", "#b3261e"  # most answers are right: grey lets the others stand out


def map_figure(points: np.ndarray, panels: Mapping[str, Sequence[str]], task_labels: Sequence[str] = ()) -> bytes:
    """Positions (N, 2), once a panel: title → the name of each point, which colours it.

    A label has the colour of its place among `task_labels`, as in the other figures of the task.
    """
    with drawing(0.4 + 4.4 * len(panels), 4.9, columns=len(panels)) as picture:
        for ax, (title, names) in zip(picture.axes, panels.items(), strict=True):
            kinds, of = np.unique(np.asarray(names, dtype=str), return_inverse=True)
            labels = task_labels if set(kinds) & set(task_labels) else ()
            looks = looks_of([*labels, *(str(kind) for kind in kinds if kind not in labels)])
            for k, kind in enumerate(kinds):
                mine = points[of == k]
                colour = {"right": RIGHT, "wrong": WRONG}.get(str(kind), looks[str(kind)][0])
                label = f"{readable(kind)} ({len(mine)})"
                ax.scatter(
                    mine[:, 0],
                    mine[:, 1],
                    s=max(3, 900 / len(points) ** 0.75),
                    color=colour,
                    alpha=0.65,
                    label=label,
                    linewidths=0,
                )
            ax.set_title(title)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(False)
            ax.spines[:].set_visible(True)
            ax.spines[:].set_color(GRID)
            ax.set_aspect("equal", "datalim")
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, markerscale=2, handletextpad=0.2)
    return picture.png


def precision_figure(metrics: Mapping[str, Mapping[str, Metric]], chance: Mapping[str, float], k: int) -> bytes:
    """Precision among `k` neighbours: embedding → label → metric, with 95 % intervals; `chance` label → share."""
    labels = list(chance)
    with drawing(6.6, 1.1 + 0.42 * len(labels) * max(1, len(metrics))) as picture:
        ax = picture.axes[0]
        step = 0.8 / len(metrics)
        for row, (name, of_label) in enumerate(metrics.items()):
            for place, label in enumerate(labels):
                metric = of_label[label]
                if metric.value is None:
                    continue
                y = place + (row - (len(metrics) - 1) / 2) * step
                ends = [
                    metric.low if metric.low is not None else metric.value,
                    metric.high if metric.high is not None else metric.value,
                ]
                spread = [[metric.value - ends[0]], [ends[1] - metric.value]]
                shown = name if place == 0 else None
                ax.errorbar(
                    metric.value, y, xerr=spread, color=SERIES[row], marker="o", markersize=6, elinewidth=2, label=shown
                )
                ax.text(ends[1] + 0.015, y, f"{metric.value:.2f} (n = {metric.n})", va="center", fontsize=8, color=SOFT)
        for place, label in enumerate(labels):
            ax.plot(
                [chance[label]] * 2,
                [place - 0.42, place + 0.42],
                color=SOFT,
                linestyle=(0, (2, 2)),
                linewidth=1.4,
                label="chance" if place == 0 else None,
            )
        ax.set_yticks(range(len(labels)), [readable(label) for label in labels])
        ax.invert_yaxis()
        ax.set(xlim=(0, 1.12), xlabel=f"Share of the {k} nearest training images with the query's label")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.35 / picture.figure.get_figheight()), ncols=3)
    return picture.png
