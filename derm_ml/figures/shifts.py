"""How far recent answers of a model lie from earlier ones: one line each, with its interval. Returns a PNG (bytes)."""

from __future__ import annotations

from collections.abc import Sequence

from derm_ml.figures.style import BLUE, RED, SOFT, blank, drawing
from derm_ml.metrics.words import readable

# name, value, low, high, whether it counts as drift
Row = tuple[str, float, float, float, bool]


def shifts_figure(rows: Sequence[Row], least: float, since: str) -> bytes:
    """`rows` as probabilities that a recent record lies above an earlier one; beyond `least` from 0.5 it is drift."""
    if not rows:
        return blank("Too few different images before or since: no shift can be judged.")
    with drawing(6.4, 1.5 + 0.42 * len(rows)) as picture:
        ax = picture.axes[0]
        ax.axvspan(0.5 - least, 0.5 + least, color=SOFT, alpha=0.10, linewidth=0)
        ax.axvline(0.5, color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
        for place, (_, value, low, high, drifted) in enumerate(rows):
            colour = RED if drifted else BLUE
            ax.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.6)
            ax.plot([value], [place], color=colour, marker="D" if drifted else "o", markersize=6)
            said = f"{value:.2f}{', drifted' if drifted else ''}"
            ax.annotate(said, (high, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
        ax.set_yticks(range(len(rows)), [readable(row[0].replace(".", "_")) for row in rows])
        ax.set(xlim=(0, 1.12), ylim=(len(rows) - 0.4, -0.6))
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5: none", "0.75", "1"])
        ax.set_xlabel(f"Probability that an answer since {since} lies above an earlier one")
        ax.grid(axis="y", visible=False)
    return picture.png
