"""The settings of a recipe, from a terminal: which there are, their types, values and what they do."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.padding import Padding
from rich.table import Table

from derm_ml.cli.arguments import TaskName, task_of
from derm_ml.cli.terminal import out_console, print_line, print_narrow
from derm_ml.recipe import Group, Recipe


def recipe(
    task_name: TaskName,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="one recipe; default: list them", show_default=False)
    ] = "",
) -> None:
    """Show the recipes of a task, or every setting of one: its type, its value and what it does."""
    task = task_of(task_name)
    if not name:
        table = Table("recipe", "what", title=f"{task.name}: the first is the default")
        for each, kind in task.recipes.items():
            table.add_row(each, " ".join((kind.__doc__ or "").split()))
        print_narrow(table)
        print_line(f"Settings of one: derm recipe {task.name} NAME; another value: derm fit … --set NAME=VALUE")
        return
    chosen = task.recipe(name)
    out_console.print(" ".join((type(chosen).__doc__ or "").split()))
    for setting, kind, value, what in settings_of_recipe(chosen):
        out_console.print(f"{setting} = {value}  ({kind})", soft_wrap=True)
        out_console.print(Padding(what, (0, 0, 0, 4)))


def settings_of_recipe(recipe: Recipe) -> Iterator[tuple[str, str, str, str]]:
    """(dotted name, type, default, sentence) of every setting, groups in their order."""
    for name, info in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, Group):
            for inner, its_info in type(value).model_fields.items():
                yield (
                    f"{name}.{inner}",
                    type_in_words(its_info),
                    shown(getattr(value, inner)),
                    its_info.description or "",
                )
        else:
            yield name, type_in_words(info), shown(value), info.description or ""


def type_in_words(info: FieldInfo) -> str:
    """The type and its limits in words: `whole number, ≥ 1`."""
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [f"{sign} {getattr(m, key):g}" for m in info.metadata for key, sign in limits.items() if hasattr(m, key)]
    return ", ".join([_words(info.annotation), *bounds])


def _words(annotation: Any) -> str:
    named = {int: "whole number", float: "number", bool: "true or false", str: "text", NoneType: "null"}
    if annotation in named:
        return named[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if origin in (list, tuple, set, frozenset):
        return f"list of {_words(inner[0])}" if inner else "list"
    return "mapping" if origin is dict else getattr(annotation, "__name__", "value")


def shown(value: Any) -> str:
    if value is None or value == "":
        return "null" if value is None else "''"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list | tuple) else str(value)
