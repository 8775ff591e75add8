"""What one model after the other reached, a line for each split, broken and marked where the split is another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from derm_ml.figures.charts import SPLIT_COLOURS
from derm_ml.figures.style import BLUE, DASHES, SOFT, blank, drawing

# a mark: place on the axis, value, ends of its interval (None: it has none), cases
Mark = tuple[int, float, float | None, float | None, int]
# of one split, as its hash names it: the marks that may be compared
Run = tuple[str, Sequence[Mark]]


def trend_figure(names: Sequence[str], series: Mapping[str, Sequence[Run]], metric: str) -> bytes:
    """`series` split → runs of marks on one and the same split. Returns a PNG (bytes)."""
    if not any(marks for runs in series.values() for _, marks in runs):
        return blank("No model was measured yet.")
    width = max(4.6, 1.4 + 0.55 * len(names))
    with drawing(width, 3.4) as picture:
        ax = picture.axes[0]
        for row, (split, runs) in enumerate(series.items()):
            colour, shift = SPLIT_COLOURS.get(split, BLUE), 0.09 * (row - (len(series) - 1) / 2)
            for number, (split_hash, marks) in enumerate(runs):
                x = [mark[0] + shift for mark in marks]
                y = [mark[1] for mark in marks]
                for place, mark in zip(x, marks, strict=True):
                    if mark[2] is not None and mark[3] is not None:
                        ax.plot([place, place], [mark[2], mark[3]], color=colour, linewidth=1.4, alpha=0.5)
                dash = DASHES[row % len(DASHES)]
                label = split if number == 0 else None
                ax.plot(x, y, color=colour, linestyle=dash, marker="os"[row % 2], markersize=4.5, label=label)
                if number:
                    place = marks[0][0] - 0.5 + shift
                    ax.axvline(place, color=colour, linewidth=1, linestyle=(0, (2, 3)))
                    said, beside = f"{split}: other split {split_hash[:6]}", "right" if shift < 0 else "left"
                    where = {"transform": ax.get_xaxis_transform(), "rotation": 90, "va": "top", "ha": beside}
                    ax.text(place, 0.99, said, **where, fontsize=6.5, color=SOFT)
        ax.set_xticks(range(len(names)), [_short(name) for name in names], rotation=40, ha="right", fontsize=7.5)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.set_ylabel(metric)
        ax.set_title("One model after the other")
        ax.legend(loc="lower left")
    return picture.png


def _short(name: str) -> str:
    """A model folder's recipe and the first digits of its id."""
    recipe, _, digits = name.rpartition("-")
    return f"{recipe}-{digits[:4]}" if recipe else name[:12]
