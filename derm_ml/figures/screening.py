"""What a screening test is worth: the decision curve. Returns a PNG (bytes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from derm_ml.figures.style import BLUE, INK, SOFT, blank, drawing


def decision_curve_figure(rows: Sequence[dict[str, Any]], marks: dict[str, float] | None = None) -> bytes:
    """Rows of `metrics.screening.decision_curve`: net benefit over the risk at which one would biopsy.

    `marks` name → threshold of an operating point: where on the axis each of them decides.
    """
    rows = [row for row in rows if row["model"] is not None]
    if not rows:
        return blank("There are no positives and negatives: there is no decision curve.")
    x = np.array([row["threshold"] for row in rows])
    model, everybody = (np.array([row[name] for row in rows]) for name in ("model", "biopsy_all"))
    with drawing(6.2, 4.3) as picture:
        ax = picture.axes[0]
        band = [row for row in rows if row["low"] is not None]
        if band:
            at, low, high = ([row[name] for row in band] for name in ("threshold", "low", "high"))
            ax.fill_between(at, low, high, color=BLUE, alpha=0.13, linewidth=0)
        ax.plot(x, model, color=BLUE, label="biopsy where the model says so")
        ax.plot(x, everybody, color=SOFT, linestyle=(0, (5, 1.5)), label="biopsy everybody")
        ax.axhline(0, color=INK, linewidth=1, linestyle=(0, (1.5, 1.2)), label="biopsy nobody")
        top = 1.15 * max(model.max(), everybody.max(), 1e-3)
        for name, threshold in sorted((marks or {}).items(), key=lambda item: item[1]):
            if x[0] <= threshold <= x[-1]:
                ax.axvline(threshold, color=SOFT, linewidth=0.8, alpha=0.6)
                ax.text(threshold, top, f" {name}", rotation=90, va="top", ha="right", fontsize=7.5, color=SOFT)
        ax.set(xlim=(x[0], x[-1]), ylim=(-0.25 * top, top))
        ax.set(xlabel="Risk at which one would biopsy", ylabel="Net benefit per person")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return picture.png
