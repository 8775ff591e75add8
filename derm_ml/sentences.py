"""Wrong values in one sentence: what was given, what is known, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from derm_ml import DermError

# pydantic's kinds of fault → what to write instead
_WANTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "names and values",
    "model_type": "names and values",
    "model_attributes_type": "names and values",
    "missing": "a value: it is required",
}


class WrongValue(DermError, ValueError):
    """A setting, an option or an argument somebody gave that cannot be used."""


def unknown(kind: str, word: str, known: Iterable[str], owner: str) -> str:
    """`unknown("label", "melanom", ("melanoma", "nevus"), "the model knows")` → one sentence with a suggestion."""
    names = list(known)
    near = get_close_matches(word, names, n=1)
    meant = f" (did you mean '{near[0]}'?)" if near else ""
    return f"no {kind} '{word}'{meant}; {owner} {', '.join(names) or 'none'}"


def of_values(error: ValidationError, known: Iterable[str] | Mapping[str, str] = ()) -> str:
    """What pydantic found wrong, each fault as `name: what is wrong, not 'what was given'`, on one line.

    `known` are the names there are; a mapping says what each is suggested as: `{"epochs": "optimiser.epochs"}`.
    """
    names = known if isinstance(known, Mapping) else {name: name for name in known}
    return "; ".join(_fault(fault, names) for fault in error.errors(include_url=False))


def _fault(fault: Any, known: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(name.rpartition(".")[2], known, n=1)
        return f"there is no setting '{name}'" + (f" (did you mean '{known[near[0]]}'?)" if near else "")
    said = _WANTED.get(str(fault["type"]), "").format(**fault.get("ctx", {}))
    said = f"write {said}" if said else str(fault["msg"]).removeprefix("Value error, ")
    given = fault.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool | None) else ""
    return f"{name}: {said[0].lower()}{said[1:]}{shown}" if name else f"{said}{shown}"
