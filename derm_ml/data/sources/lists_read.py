"""Which lists a layout opened, and which of their columns it asked for: seen where lists are read, so that no layout
has to say so itself.

    with lists_read() as lists: reading = layout.read(tree, labels)
    lists[path]          ListUse(columns=("image_id", "dx", "dx_type"), used={"image_id", "dx"})
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class ListUse:
    """Of one list: its columns in their order (none for XML or JSON), and those of which a value was asked for."""

    columns: tuple[str, ...] = ()
    used: set[str] = field(default_factory=set)


_open: ContextVar[dict[Path, ListUse] | None] = ContextVar("lists that are being read", default=None)


@contextmanager
def lists_read() -> Iterator[dict[Path, ListUse]]:
    """What is read within the block, by path."""
    lists: dict[Path, ListUse] = {}
    before = _open.set(lists)
    try:
        yield lists
    finally:
        _open.reset(before)


def note_list(path: Path, columns: Sequence[str] = ()) -> ListUse:
    """Note that a list is read; what is returned takes the names of the columns that are used."""
    lists = _open.get()
    use = ListUse() if lists is None else lists.setdefault(path, ListUse())
    use.columns = tuple(columns) or use.columns
    return use
