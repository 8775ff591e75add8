"""What changes of an image cost a model, as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from derm_ml.figures.style import BLUE, INK, blank, drawing
from derm_ml.metrics.words import readable


def stress_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """`change`, `loss`, `low`, `high` of each row as a dot with its interval; right of the line the change costs."""
    shown = [row for row in rows if row["loss"] is not None]
    if not shown:
        return blank("Too few images to say what changes of an image cost")
    with drawing(5.4, 0.9 + 0.32 * len(shown)) as picture:
        ax = picture.axes[0]
        for place, row in enumerate(shown):
            ax.plot([row["low"], row["high"]], [place, place], color=BLUE, linewidth=2)
            ax.plot([row["loss"]], [place], "o", color=BLUE, markersize=6)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_yticks(range(len(shown)), [readable(row["change"]) for row in shown])
        ax.invert_yaxis()
        ax.set_xlabel("Loss of AUC, 95 % interval (paired)")
    return picture.png
