"""Counts and courses: confusion matrix, reliability, class balance, training curves. Each returns a PNG (bytes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from derm_ml.figures.style import BLUE, DASHES, GREEN, INK, ORANGE, PAPER, SERIES, SKY, SOFT, blank, drawing, looks_of
from derm_ml.metrics.calibration import reliability_table
from derm_ml.metrics.intervals import clopper_pearson
from derm_ml.metrics.words import readable

SPLIT_COLOURS = {"train": BLUE, "validation": ORANGE, "test": SKY, "recent": GREEN}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def confusion_figure(counts: np.ndarray, labels: Sequence[str]) -> bytes:
    """Counts (L, L), row = truth, column = prediction; colour and the small per cent are the share of the row."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = 1.15 * len(labels)
    with drawing(size + 2.1, size + 1.25) as picture:
        ax = picture.axes[0]
        ax.imshow(shares, cmap=_tint(), vmin=0, vmax=1)
        for row, column in np.ndindex(counts.shape):
            colour = PAPER if shares[row, column] > 0.45 else INK
            ax.text(column, row - 0.08, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=13)
            share = f"{100 * shares[row, column]:.0f} %"
            ax.text(column, row + 0.21, share, ha="center", va="center", color=colour, fontsize=8)
        names = [readable(label).replace(" ", "\n") for label in labels]
        totals = [f"{name}\n(n = {total})" for name, total in zip(names, counts.sum(axis=1), strict=True)]
        ax.set_xticks(range(len(labels)), names)
        ax.set_yticks(range(len(labels)), totals)
        ax.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        ax.grid(False)
        ax.grid(True, which="minor", color=PAPER, linewidth=2)
        ax.tick_params(which="both", length=0, labelcolor=INK)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="Predicted", ylabel="Truth")
        ax.xaxis.set_label_position("top")
        ax.xaxis.tick_top()
    return picture.png


def co_occurrence_figure(truth: np.ndarray, decided: np.ndarray, labels: Sequence[str]) -> bytes:
    """Counts (L, L) of cases that carry both labels: in truth and as decided. Colour and per cent: share of the row."""
    size = 0.95 * len(labels) + 1.3
    with drawing(2 * size + 0.4, size + 0.5, columns=2, sharey=True) as picture:
        for ax, counts, title in zip(picture.axes, (truth, decided), ("In truth", "As decided"), strict=True):
            shares = counts / np.maximum(1, np.diag(counts)[:, None])
            ax.imshow(shares, cmap=_tint(), vmin=0, vmax=1)
            for row, column in np.ndindex(counts.shape):
                colour = PAPER if shares[row, column] > 0.45 else INK
                ax.text(column, row - 0.06, f"{counts[row, column]}", ha="center", va="center", color=colour)
                share = f"{100 * shares[row, column]:.0f} %" if row != column else ""
                ax.text(column, row + 0.24, share, ha="center", va="center", color=colour, fontsize=7)
            names = [readable(label).replace(" ", "\n") for label in labels]
            ax.set_xticks(range(len(labels)), names, fontsize=8)
            ax.set_yticks(range(len(labels)), names, fontsize=8)
            ax.set_title(title)
            ax.grid(False)
            ax.tick_params(which="both", length=0, labelcolor=INK)
            ax.spines[:].set_visible(False)
    return picture.png


def reliability_figure(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    before: np.ndarray | None = None,
    task_labels: Sequence[str] = (),
) -> bytes:
    """Observed share against predicted probability (N, L), a panel a label.

    In bins of equal mass; bars are exact 95 % intervals, the marks below zero show where the predictions lie. On the
    diagonal a probability means what it says. `before` (N, L), dashed: the same before calibration.
    """
    from matplotlib.colors import to_rgba

    columns = min(3, len(labels))
    rows, looks = -(-len(labels) // columns), looks_of(task_labels or labels)
    # a panel is square, with a title above and a label below
    with drawing(0.5 + 2.75 * columns, 0.5 + 3.55 * rows, rows=rows, columns=columns, sharey=True) as picture:
        for k, (ax, label) in enumerate(zip(picture.axes, labels, strict=False)):
            table = reliability_table(probabilities[:, k], targets[:, k])
            ax.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
            if before is not None:
                old = reliability_table(before[:, k], targets[:, k])
                ends = [[row[name] for row in old] for name in ("mean_probability", "observed_share")]
                ax.plot(*ends, color=SOFT, linestyle=DASHES[1], linewidth=1.2, label="before calibration")
            x, y = (np.array([row[name] for row in table]) for name in ("mean_probability", "observed_share"))
            ends = np.array([clopper_pearson(round(row["observed_share"] * row["n"]), row["n"]) for row in table])
            if table:
                spread = [y - ends[:, 0], ends[:, 1] - y]
                ax.errorbar(
                    x,
                    y,
                    yerr=spread,
                    color=looks[label][0],
                    ecolor=to_rgba(looks[label][0], 0.4),
                    elinewidth=1.6,
                    marker="o",
                    markersize=4.5,
                    label="as served",
                )
            _rug(ax, probabilities[:, k])
            ax.set_title(readable(label))
            ax.set(xlim=(-0.02, 1.02), ylim=(-0.09, 1.02), xlabel="Predicted probability", aspect="equal")
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
            if k % columns == 0:
                ax.set_ylabel("Observed share")
        for ax in picture.axes[len(labels) :]:
            ax.set_visible(False)
        if before is not None:  # below the panels: inside there is data everywhere
            lines, names = picture.axes[0].get_legend_handles_labels()
            picture.figure.legend(lines, names, loc="outside lower center", ncols=2)
    return picture.png


def class_balance_figure(counts: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int] | None = None) -> bytes:
    """`counts` split → label → number of cases, as bars: one panel a split, the share beside each number.

    `sizes` split → number of cases, where a case may have several labels (default: the sum of its counts).
    """
    splits = [split for split in counts if sum(counts[split].values())]
    if not splits:
        return blank("There are no cases.")
    labels = sorted({label for split in splits for label in counts[split]}, key=lambda x: (-_total(counts, x), x))
    with drawing(2.9 * len(splits) + 0.9, 0.75 + 0.34 * len(labels), columns=len(splits), sharey=True) as picture:
        for ax, split in zip(picture.axes, splits, strict=True):
            numbers = [counts[split].get(label, 0) for label in labels]
            total = sizes[split] if sizes else sum(numbers)
            ax.barh(range(len(labels)), numbers, color=SPLIT_COLOURS.get(split, BLUE), height=0.66)
            for place, number in enumerate(numbers):
                text = f" {number}  ({100 * number / total:.0f} %)"
                ax.text(number, place, text, va="center", fontsize=8, color=INK if number else "#b3261e")
            ax.set_title(f"{split}, n = {total}")
            ax.set_yticks(range(len(labels)), [readable(label) for label in labels])
            ax.set_xlim(0, 1.5 * max(numbers))
            ax.tick_params(length=0, labelcolor=INK)
            ax.xaxis.set_visible(False)
            ax.spines["bottom"].set_visible(False)
            ax.grid(False)
        picture.axes[0].invert_yaxis()
    return picture.png


def training_curves(history: Sequence[Mapping[str, Any]], kept: int | None = None) -> bytes:
    """Epoch reports (as mappings: epoch, train_loss, metrics, learning_rate, best) as panels over the epochs.

    What is called `loss_…` is a term of a sum: each has a panel of its own, for one may be a tenth of another.
    The marked epoch is `kept`, the one the bundle holds; where that is not said, the last that was the best so far.
    """
    from matplotlib.ticker import MaxNLocator

    if not history:
        return blank("No epoch has finished yet.")
    epochs = [report["epoch"] for report in history]
    kept = kept or max((report["epoch"] for report in history if report["best"]), default=None)
    losses = {"training": [report["train_loss"] for report in history]}
    scores: dict[str, list[float]] = {}
    terms: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for report in history for name in report["metrics"]):
        title = readable(name.removeprefix("validation_"))
        target, title = (losses, "validation") if title == "loss" else (scores, title)
        if name.startswith("loss_"):
            target = terms
        target[title] = [report["metrics"].get(name, np.nan) for report in history]
    rates = np.array([report["learning_rate"] for report in history])
    power = int(np.floor(np.log10(rates.max()))) if rates.max() > 0 else 0
    scaled = {"learning rate": (rates / 10.0**power).tolist()}
    own = [(f"Validation: {name}", {name: values}) for name, values in terms.items()]
    panels = [
        ("Loss", losses),
        ("Validation", scores),
        *own,
        (f"Learning rate (×10{str(power).translate(_RAISED)})", scaled),
    ]
    widths = (1, 1.25, *(1 for _ in own), 0.8)
    with drawing(3.4 * sum(widths), 3.1, columns=len(panels), width_ratios=widths) as picture:
        for ax, (title, series) in zip(picture.axes, panels, strict=True):
            if kept is not None:
                ax.axvline(kept, color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
            for place, (name, values) in enumerate(series.items()):
                style = {"color": SERIES[place % len(SERIES)], "linestyle": DASHES[place % len(DASHES)]}
                ax.plot(epochs, values, marker="o", markersize=2.6, label=name, **style)
            ax.set_title(title)
            ax.set_xlabel("Epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.margins(x=0.03)
            if len(series) > 1:
                ax.legend()
        if kept is not None:
            ends = picture.axes[1].get_ylim()
            picture.axes[1].annotate(
                f" kept: {kept} ",
                (kept, ends[0]),
                xytext=(0, 3),
                textcoords="offset points",
                color=SOFT,
                fontsize=8,
                ha="right" if kept > sum(epochs) / len(epochs) else "left",
            )
    return picture.png


def _tint() -> Any:
    """From paper to deep blue: the colours of shares 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("tint", [PAPER, "#9cc7e4", BLUE, "#003f66"])


def _rug(ax: Any, values: np.ndarray) -> None:
    """A thin histogram below zero: where the predictions lie."""
    heights, edges = np.histogram(values, np.linspace(0, 1, 41))
    scaled = 0.075 * np.sqrt(heights / max(1, heights.max()))  # square root: the rare high bins stay visible
    ax.bar(edges[:-1], scaled, width=1 / 40, bottom=-0.085, align="edge", color=SOFT, alpha=0.45, linewidth=0)


def _total(counts: Mapping[str, Mapping[str, int]], label: str) -> int:
    return sum(numbers.get(label, 0) for numbers in counts.values())
