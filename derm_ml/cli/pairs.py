"""A model asked about two photos from a terminal: match the conditions of two visits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from derm_ml import RESEARCH_USE, DermError
from derm_ml.cli.arguments import Model, TaskName, asked_by, predictor_of, task_of
from derm_ml.cli.terminal import notes, out_console, print_result, print_table, write_png
from derm_ml.task import Task


def match(
    task_name: TaskName,
    first: Annotated[Path, typer.Argument(help="photo of the first visit", show_default=False)],
    second: Annotated[Path, typer.Argument(help="photo of the second visit", show_default=False)],
    boxes: Annotated[Path | None, typer.Option(help="JSON: first and second, each a list of label and box")] = None,
    model: Model = None,
    picture: Annotated[Path | None, typer.Option(help="also draw the pair with its matches into this PNG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the whole answer as one JSON object")] = False,
) -> None:
    """Match the conditions of two visits: which persist, are new, resolved or not visible."""
    from derm_ml.pairs.files import read_pair

    task = task_of(task_name)
    asked_by(task, "match")
    if picture and picture.suffix.lower() != ".png":
        raise DermError(f"--picture {picture}: a PNG is written; choose a name that ends in .png")
    predictor = predictor_of(task, model)
    pair = read_pair(first, second, boxes)
    try:
        answer = task.answer(predictor, pair, {})
        if picture:
            write_png(picture, task.explain(predictor, pair, {}))
    except ValueError as error:
        raise DermError(str(error)) from error
    if as_json:
        print(json.dumps(answer))
    else:
        _print_pair(task, answer)
    if picture:
        print_result(picture)
    for warning in answer["warnings"]:
        notes.print(warning, style="yellow", markup=False)
    if as_json or not any(answer[side] for side in ("first", "second")):  # else the table says it below itself
        notes.print(RESEARCH_USE, style="dim")
    if not answer["accepted"]:
        raise DermError(f"refused: {answer['reason']}")


def _print_pair(task: Task, answer: Mapping[str, Any]) -> None:
    """One row a box: its state, its partner and how sure that is."""
    partners = {("first", m["first"]): m for m in answer["matches"]} | {
        ("second", m["second"]): m for m in answer["matches"]
    }
    table = Table(
        "photo", "box", "label", "state", "confidence", "other box", "size", title=task.title, caption=RESEARCH_USE
    )
    for side, other in (("first", "second"), ("second", "first")):
        for box in answer[side]:
            partner = partners.get((side, box["number"]))
            extra = (str(partner[other]), f"×{partner['size_change']:.2f}") if partner else ("", "")
            sure = f"{box['confidence']:.2f}" if "confidence" in box else ""
            table.add_row(side, str(box["number"]), box["label"], box.get("state", ""), sure, *extra)
    if table.row_count:
        print_table(table)
    same = answer["probability_same_skin"]
    out_console.print(f"same skin: {'not known' if same is None else f'{same:.2f}'}")
