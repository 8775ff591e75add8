"""Markdown of what code says of itself: tables, and texts that must not become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MADE = "*This page is made from the code when the site is built.*"


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in parts if part), ""])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are Markdown, a line break in one becomes a space."""
    lines = [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
    return "\n".join(lines)


def plain(text: object) -> str:
    """A sentence of the code: what stands in backticks stays code, everything else is text and no markup."""
    parts = re.split(r"(`[^`]*`)", " ".join(str(text).split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]{}#])", r"\\\1", part) for part in parts)


def code(text: object) -> str:
    """As code; nothing where it is empty."""
    shown = " ".join(str(text).split())
    return f"`{shown}`" if shown else ""


def block(text: str, kind: str = "text") -> str:
    return f"```{kind}\n{text.strip(chr(10))}\n```"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(' '.join(str(cell).split()).replace('|', chr(92) + '|') for cell in cells)} |"
