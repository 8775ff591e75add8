"""A comparison as files people and machines read: comparison.html, comparison.json, comparison.csv and comparison.png.

save(comparison, task, folder)      difference_figure(comparison): every difference with its interval, as a PNG
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from derm_ml import RESEARCH_USE, formats
from derm_ml.evaluation.comparison_page import NO_BASIS, Basis, comparison_page
from derm_ml.figures.style import INK, SERIES, SOFT, drawing
from derm_ml.files import replacing_folder, write_json
from derm_ml.formats import NO_DIFFERENCE
from derm_ml.metrics.glossary import metric_named
from derm_ml.recipe import dotted
from derm_ml.tables import write_rows

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.comparison import Comparison
    from derm_ml.task import Task

PAGE = "comparison.html"
MARKS = "osD^vP*"


def save(
    comparison: Comparison, task: Task, folder: Path, basis: Basis = NO_BASIS, dataset: Dataset | None = None
) -> Path:
    """Write the four files at `folder`, whole or not at all, and return `folder`.

    `dataset` is where the page takes images of cases from; without it they are named only.
    """
    figure = difference_figure(comparison)
    rows = [row.plain() for row in comparison.rows]
    models = [
        {"name": run.name, "model_version": run.evaluation.model_version, "recipe": run.evaluation.recipe_name,
         "settings": dotted(run.evaluation.recipe)}
        for run in comparison.runs
    ]  # fmt: skip
    facts = {name: getattr(comparison, name) for name in ("task", "title", "split", "split_hash", "n", "groups")}
    with replacing_folder(folder) as temporary:
        stored = facts | {
            "runs": models,
            "rows": rows,  # without p, which does not know what less-is-better is
            "by_chance": comparison.by_chance,
            "research_use": RESEARCH_USE,
        }
        write_json(temporary / "comparison.json", formats.COMPARISON.stamped(stored))
        (temporary / "comparison.png").write_bytes(figure)
        (temporary / PAGE).write_text(comparison_page(comparison, task, figure, basis, dataset), encoding="utf-8")
        with (temporary / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
            write_rows(file, list(rows[0]), rows)
    return folder


def difference_figure(comparison: Comparison) -> bytes:
    """One line a metric, one mark a run: run − reference, with the interval from resampled patients.

    An interval that does not touch the line at 0 tells the two apart; filled marks do, open ones do not. The thin bar
    above an AUC is DeLong's interval. An arrow says whether more (↑) or less (↓) is better. A metric without a
    difference is in the table alone.
    """
    rows = [row for row in comparison.rows if row.difference]
    reference, caption = comparison.runs[0].name, comparison.by_chance
    metrics = list(dict.fromkeys(row.metric for row in rows))
    runs = list(dict.fromkeys(row.run for row in rows))
    with drawing(9.6, 1.3 + 0.26 * len(metrics) * max(1.0, 0.75 * len(runs)) + 0.2) as picture:
        ax = picture.axes[0]
        ax.axvline(0, color=INK, linewidth=1)
        for row in rows:
            k = runs.index(row.run)
            place = metrics.index(row.metric) + (k - (len(runs) - 1) / 2) * 0.7 / len(runs)
            colour, difference = SERIES[k % len(SERIES)], row.difference
            if difference is None or row.value is None or row.reference is None:
                continue
            told = row.verdict != NO_DIFFERENCE
            ax.plot([difference.low, difference.high], [place, place], color=colour, linewidth=2.2, alpha=0.75)
            ax.plot(
                difference.value, place, MARKS[k % len(MARKS)], color=colour, markersize=6,
                markerfacecolor=colour if told else "#ffffff", label=row.run if row.metric == metrics[0] else None,
            )  # fmt: skip
            if row.delong:
                ax.plot([row.delong.low, row.delong.high], [place - 0.16] * 2, color=SOFT, linewidth=1)
            text = f"{row.reference:.3f} → {row.value:.3f}"
            ax.text(1.01, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=7.5, color=colour)
        names = [f"{metric_named(metric).title} {metric_named(metric).arrow}".rstrip() for metric in metrics]
        ax.set_yticks(range(len(metrics)), names)
        ax.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
        ax.invert_yaxis()
        ax.set_xlabel(f"Difference to {reference}, 95 % interval\n{fill(caption, 70)}")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(runs), handlelength=1.2)
        ax.grid(axis="y", visible=False)
    return picture.png
