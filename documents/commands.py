"""The page of the command line, from the functions behind its verbs, and that of the Make targets."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from derm_ml.cli import VERBS
from derm_ml.places import PROJECT
from documents.markdown import MADE, block, code, page, plain, table
from documents.reference import docstring


class Parameter(NamedTuple):
    """One argument or option of a verb, as a reader needs it."""

    shown: str  # `TASK`, `--set`
    takes: str  # `NAME=VALUE`, `number`; empty for a flag
    default: str
    what: str
    is_option: bool
    is_required: bool
    is_repeated: bool


def commands() -> str:
    """Every verb: usage, what it does, arguments and options."""
    overview = [[f"[`derm {name}`](#derm-{name})", plain(_first_line(verb))] for name, verb in _named().items()]
    parts = [
        MADE,
        "`derm VERB --help` prints the same. Results go to standard output, notes and progress to standard error. Exit "
        "status: 0; 1 where a check fails; 2 with one sentence where something was wrong with what was asked; 130 "
        "after Ctrl-C.",
        table(["command", "what"], overview),
    ]
    for name, verb in _named().items():
        taken = list(parameters(verb))
        rows = [[code(one.shown), code(one.takes), code(one.default), plain(one.what)] for one in taken]
        listed = table(["argument", "takes", "default", "what"], rows) if rows else ""
        parts += [f"## derm {name}", block(_usage(name, taken)), docstring(verb.__doc__), listed]
    return page("Command line", *parts, "## make", "`make` without a target prints:", _targets())


def _named() -> dict[str, Callable[..., None]]:
    return {verb.__name__.replace("_", "-"): verb for verb in VERBS}


def parameters(verb: Callable[..., None]) -> Iterator[Parameter]:
    """The arguments and options of a verb in the order of its function."""
    hints = get_type_hints(verb, include_extras=True)
    for name, declared in inspect.signature(verb).parameters.items():
        annotation, info = hints[name], None
        if get_origin(annotation) is Annotated:
            annotation, info = get_args(annotation)[0], get_args(annotation)[1]
        is_required = declared.default is inspect.Parameter.empty
        says_nothing = is_required or declared.default is False or declared.default in (None, "", [])
        default = "" if says_nothing else str(declared.default)
        is_repeated = get_origin(annotation) is list
        if isinstance(info, ArgumentInfo):
            shown, takes = (info.metavar or name.upper()).strip("[]"), ""
        else:
            shown = ", ".join(_declared(info) or (f"--{name.replace('_', '-')}",))
            takes = (info and info.metavar) or _words(annotation)
        what = (info.help if info else "") or ""
        yield Parameter(shown, takes, default, what, not isinstance(info, ArgumentInfo), is_required, is_repeated)


def _declared(info: Any) -> tuple[str, ...]:
    """The names an option was given; inside `Annotated` the first of them stands where a default would."""
    given = (info.default, *(info.param_decls or ())) if isinstance(info, OptionInfo) else ()
    return tuple(one for one in given if isinstance(one, str) and one.startswith("-"))


def _usage(name: str, taken: list[Parameter]) -> str:
    words = [f"derm {name}", "[OPTIONS]" if any(one.is_option for one in taken) else ""]
    for one in taken:
        if not one.is_option:
            shown = f"{one.shown}…" if one.is_repeated else one.shown
            words.append(shown if one.is_required else f"[{shown}]")
    return " ".join(filter(None, words))


def _words(annotation: Any) -> str:
    """What an option takes; nothing for a flag."""
    named = {int: "whole number", float: "number", str: "text", Path: "path", bool: ""}
    if annotation in named:
        return named[annotation]
    origin, inner = get_origin(annotation), [one for one in get_args(annotation) if one is not NoneType]
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, UnionType, list):
        return " or ".join(map(_words, inner))
    return getattr(annotation, "__name__", "value")


def _first_line(verb: Callable[..., None]) -> str:
    return inspect.cleandoc(verb.__doc__ or "").partition("\n\n")[0]


def _targets() -> str:
    said = subprocess.run(
        ["make", "--no-print-directory", "-s", "help"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return block(said.stdout)
