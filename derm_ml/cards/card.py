"""A card: sections of named fields. A mandatory field that is empty refuses promotion in a sentence that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Value = str | Sequence[str] | Rows


@dataclass(frozen=True, slots=True)
class CardField:
    """One field of a card: a text, a list of texts, or rows of plain values.

    `mend` says where an empty one is filled in; without it the field may be empty.
    """

    name: str
    value: Value
    mend: str = ""

    @property
    def is_empty(self) -> bool:
        if isinstance(self.value, str):
            return not self.value.strip()
        return not any(one for one in self.value)


@dataclass(frozen=True, slots=True)
class Section:
    """Fields under one heading."""

    title: str
    entries: tuple[CardField, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A model card or a data card (`kind`), of what `title` names; `synthetic`: of a model for synthetic images."""

    kind: str
    title: str
    sections: tuple[Section, ...]
    synthetic: bool = False

    @property
    def missing(self) -> list[str]:
        """A sentence for each mandatory field that is empty."""
        return [
            f"the {self.kind} says nothing under '{entry.name}' ({section.title}): {entry.mend}"
            for section in self.sections
            for entry in section.entries
            if entry.mend and entry.is_empty
        ]


def plain(value: Any) -> str:
    """A value of a row as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
