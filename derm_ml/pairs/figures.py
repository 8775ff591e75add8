"""Figures of pair matching: methods side by side, difficulty, refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from derm_ml.figures.style import BLUE, RED, SERIES, SOFT, drawing


def methods_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Bars of F1 with intervals: one group a kind of pairs, one bar a method."""
    kinds = list(dict.fromkeys(row["pairs"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with drawing(6.4, 3.0) as picture:
        ax = picture.axes[0]
        for k, method in enumerate(methods):
            for place, kind in enumerate(kinds):
                row = next((r for r in rows if r["method"] == method and r["pairs"] == kind), None)
                if row is None or row["f1"] is None:
                    continue
                x = place + (k - (len(methods) - 1) / 2) * 0.8 / len(methods)
                low, high = (row[end] if row[end] is not None else row["f1"] for end in ("low", "high"))
                spread = [[max(0.0, row["f1"] - low)], [max(0.0, high - row["f1"])]]
                colour = SERIES[k % len(SERIES)]
                ax.bar(x, row["f1"], 0.76 / len(methods), color=colour, yerr=spread, ecolor=SOFT, capsize=2,
                       label=method if place == 0 else None)  # fmt: skip
                ax.text(x, min(1.0, high) + 0.02, f"{row['f1']:.2f}", ha="center", fontsize=8)
        ax.set_xticks(range(len(kinds)), kinds)
        ax.set_ylim(0, 1.22)
        ax.set_ylabel("F1 of the matches")
        ax.legend(ncols=3, loc="upper center")
    return picture.png


def difficulty_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """F1 and state accuracy over each difficulty, one panel each."""
    names = list(dict.fromkeys(row["difficulty"] for row in rows))
    columns = 4
    lines = -(-len(names) // columns)
    with drawing(11, 2.5 * lines, rows=lines, columns=columns, sharey=True) as picture:
        for ax, name in zip(picture.axes, names, strict=False):
            of_name = [row for row in rows if row["difficulty"] == name]
            x = np.arange(len(of_name))
            for key, colour, label in (("f1", BLUE, "match F1"), ("state_accuracy", RED, "states")):
                ax.plot(x, [row[key] for row in of_name], marker="o", markersize=4, color=colour, label=label)
            texts = [row["range"].split(" ", 3) for row in of_name]
            ax.set_xticks(
                x, [" ".join(t[:3]) + f"\nn = {row['n']}" for t, row in zip(texts, of_name, strict=True)], fontsize=7
            )
            ax.set_title(name.replace("_", " "))
            ax.margins(x=0.2)
        low = min(row[key] for row in rows for key in ("f1", "state_accuracy") if row[key] is not None)
        picture.axes[0].set_ylim(min(0.8, low - 0.05), 1.01)
        picture.axes[0].legend(loc="lower left")
        for ax in picture.axes[len(names) :]:
            ax.axis("off")
    return picture.png


def same_skin_figure(same: Sequence[tuple[float, bool]], threshold: float) -> bytes:
    """Histograms of the probability of the same skin, of pairs of one person and of two."""
    with drawing(5.2, 2.8) as picture:
        ax = picture.axes[0]
        bins = np.linspace(0, 1, 26).tolist()
        for is_right, colour, label in ((True, BLUE, "one person"), (False, RED, "two people")):
            values = [p for p, right in same if right is is_right]
            if values:
                ax.hist(values, bins, color=colour, alpha=0.55, label=f"{label} (n = {len(values)})")
        ax.axvline(threshold, color=SOFT, linestyle=(0, (2, 3)))
        ax.set_yscale("symlog", linthresh=1)
        ax.yaxis.set_major_formatter("{x:g}")  # matplotlib's own writes powers as formulas
        ax.set_xlabel("Probability of the same skin")
        ax.set_ylabel("Pairs")
        ax.legend()
    return picture.png
