"""What a folder is, before anything is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from derm_ml.cli.arguments import task_of
from derm_ml.cli.settings import settings_of
from derm_ml.cli.terminal import out_console
from derm_ml.data.account import column_lines, file_rows
from derm_ml.registry import all_tasks

_LABELS = 12  # labels named one by one


def inspect(
    folder: Annotated[Path, typer.Argument(help="a folder as downloaded", show_default=False)],
    task_name: Annotated[str, typer.Option("--task", help="ask this task only; default: all tasks")] = "",
    params: Annotated[Path | None, typer.Option(help="settings of data preparation; default: params.yaml")] = None,
) -> None:
    """Say what a folder would be read as, for which tasks, and what is in the way. Nothing is copied or written.

    The exit code is 1 if no task can read it.
    """
    from derm_ml.data.inspection import inspected

    tasks = [task_of(task_name)] if task_name else list(all_tasks().values())
    looks = [inspected(task, folder, settings_of(task, params).settings) for task in tasks]
    for seen in looks:
        if seen.refused:
            continue
        images = len(seen.reading.samples) if seen.reading else 0
        layouts = ", ".join(dict.fromkeys(seen.layouts.values()))
        sources = f" ({len(seen.layouts)} data sets: {', '.join(seen.layouts)})" if len(seen.layouts) > 1 else ""
        _say(f"{seen.task} reads it as {layouts}{sources}: {images} samples")
        known = sorted(seen.labels.items(), key=lambda item: -item[1])
        named = [f"{label} {count}" for label, count in known[:_LABELS]]
        _say(f"  labels: {', '.join(named) or 'none'}{', …' if len(known) > _LABELS else ''}")
        if seen.reading and seen.reading.left_out:
            _say(f"  not modelled: {', '.join(f'{name} {count}' for name, count in seen.reading.left_out.items())}")
        for row in file_rows(seen.account):
            if row["why"] and row["fate"] != "quarantined":  # that is in the way
                _say(f"  {row['fate']}: {row['files']}, {row['why']}, e.g. {row['for example']}")
        for line in (*column_lines(seen.account), *seen.account.get("notes", ())):
            _say(f"  {line}")
        for line in seen.in_the_way or ("nothing",):
            _say(f"  in the way: {line}")
    for seen in looks:
        if seen.refused:
            _say(f"{seen.task} cannot read it: {seen.refused}")
    if all(seen.refused for seen in looks):
        raise typer.Exit(1)


def _say(line: str) -> None:
    out_console.print(line, soft_wrap=True)
