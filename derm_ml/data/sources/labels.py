"""From a source's own names (`bkl`, `Seborrheic Keratosis`) to the labels of a task.

Names are compared without regard to case, spaces, hyphens and underscores. What a name maps to:

* a label of the task                       → that label is 1, the others 0
* "" (`{"benign": ""}` for a one-label task) → every label is 0
* None                                      → the sample is left out, and counted in `Reading.left_out`

A name that is itself a label needs no entry. A name that is in neither place is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from derm_ml.data.sources.csv_table import Row
from derm_ml.data.sources.text_files import shown
from derm_ml.records import DataError, one_hot

LabelNames = Mapping[str, str | None]


@dataclass(frozen=True)
class LabelMap:
    """`labels` of the task, and what the names of a source mean (`names`, or a layout's own default if None)."""

    labels: tuple[str, ...]
    names: LabelNames | None = None
    _known: dict[str, str | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        wrong = sorted({v for v in (self.names or {}).values() if v and v not in self.labels})
        if wrong:
            allowed = ", ".join(self.labels)
            raise DataError(f"the label map leads to {', '.join(wrong)}; the task's labels are {allowed}")
        known: dict[str, str | None] = {normal(label): label for label in self.labels}
        known.update({normal(name): label for name, label in (self.names or {}).items()})
        object.__setattr__(self, "_known", known)

    def with_default(self, names: LabelNames) -> LabelMap:
        """This map, or, if none was given, the layout's `names` where they lead to a label of the task.

        A default that leads nowhere in this task is none: the reader then asks for a label map.
        """
        if self.names is not None or not any(label in self.labels for label in names.values()):
            return self
        return LabelMap(self.labels, {name: label if label in self.labels else None for name, label in names.items()})

    def knows(self, name: str) -> bool:
        return normal(name) in self._known

    def target_at(self, row: Row, name: str) -> dict[str, float] | None:
        """`target(name)`; its error points at `row`."""
        try:
            return self.target(name)
        except DataError as error:
            raise DataError(f"{row.path}:{row.line}: {error}") from error

    def target(self, name: str) -> dict[str, float] | None:
        """Label → 1.0 or 0.0, or None if samples of that name are left out.

        Raises `DataError` for a name that is not known; the caller says where it stands.
        """
        if not self.knows(name):
            known = ", ".join(sorted({*self.labels, *(self.names or {})}))
            raise DataError(f"unknown label '{shown(name)}'; correct it, or add it to the label map (known: {known})")
        label = self._known[normal(name)]
        if label is None:
            return None
        return one_hot(label, self.labels) if label else dict.fromkeys(self.labels, 0.0)


def normal(name: str) -> str:
    """`"Seborrheic  Keratosis"` → `"seborrheic_keratosis"`."""
    return re.sub(r"[\s_\-]+", "_", name.strip().lower())
