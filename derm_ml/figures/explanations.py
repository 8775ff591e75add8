"""What a label loses when the cells of its heatmap are covered, as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from derm_ml.figures.style import BLUE, DASHES, RED, SOFT, blank, drawing

_ORDERS = (
    ("coldest_first", "coldest cells first", BLUE, DASHES[0]),
    ("random_order", "random order", SOFT, DASHES[2]),
    ("hottest_first", "hottest cells first", RED, DASHES[1]),
)


def explanations_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """`cells_covered` (0 to 1) and the mean probability in each order, of each row, as three curves."""
    if not rows:
        return blank("No image of the split has a label whose heatmap could be asked about")
    with drawing(5.4, 3.2) as picture:
        ax = picture.axes[0]
        covered = [100 * row["cells_covered"] for row in rows]
        for name, said, colour, dashes in _ORDERS:
            ax.plot(covered, [row[name] for row in rows], color=colour, linestyle=dashes, label=said, marker="o",
                    markersize=3.5)  # fmt: skip
        ax.set_xlabel("Covered cells of the heatmap, %")
        ax.set_ylabel(f"Mean probability (n = {rows[0]['n']})")
        ax.set_ylim(0, 1)
        ax.legend()
    return picture.png
