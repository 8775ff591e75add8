"""From a source's own names (`bkl`, `Seborrheic Keratosis`) to the labels of a task.

Names are compared as diagnoses where `diagnoses.yaml` knows them, else without regard to case, spaces, hyphens and
underscores. What a name maps to:

* a label of the task                       → that label is 1, the others 0
* "" (`{"benign": ""}` for a one-label task) → every label is 0
* None                                      → the sample is left out, and counted in `Reading.left_out`

A name that is itself a label needs no entry. A name that is in neither place is an error that says which line of
params.yaml to write, except in sets of hundreds of diagnoses (`open_ended`): there it is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from derm_ml.data.diagnoses import diagnoses, normal, same_name
from derm_ml.data.sources.csv_table import TableRow
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import DataError, one_hot

LabelNames = Mapping[str, str | None]

__all__ = ["LabelMap", "LabelNames", "normal"]


@dataclass(frozen=True)
class LabelMap:
    """`labels` of the task, and what the names of a source mean.

    `names` are what the user or the task says; without any, what `diagnoses.yaml` says where that leads to a label of
    the task. `defaults` hold where `names` say nothing, and give way to a publisher's own word (`malignant`).
    `setting` names the setting of params.yaml to which a user adds a name.
    """

    labels: tuple[str, ...]
    names: LabelNames | None = None
    defaults: LabelNames = field(default_factory=dict)
    setting: str = "the label map"
    _known: dict[str, str | None] = field(init=False, repr=False)
    _said: frozenset[str] = field(init=False, repr=False)  # what `names` and `labels` say: nothing else overrules it

    def __post_init__(self) -> None:
        wrong = sorted({v for v in (self.names or {}).values() if v and v not in self.labels})
        if wrong:
            allowed = ", ".join(self.labels)
            raise DataError(f"the label map leads to {', '.join(wrong)}; the task's labels are {allowed}")
        known: dict[str, str | None] = {same_name(name): label for name, label in self._defaults().items()}
        known |= {same_name(label): label for label in self.labels}
        known |= {same_name(name): label for name, label in (self.names or {}).items()}
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_said", frozenset(map(same_name, (*self.labels, *(self.names or {})))))

    def _defaults(self) -> LabelNames:
        if self.defaults or self.names is not None:
            return self.defaults
        known = {name: entry.lesion for name, entry in diagnoses().items()}
        # a list that leads to no label of the task says nothing: the reader then asks for a label map
        if not any(label in self.labels for label in known.values()):
            return {}
        return {name: label if label in self.labels else None for name, label in known.items()}

    def with_default(self, names: LabelNames) -> LabelMap:
        """This map, with the layout's `names` where they lead to a label of the task and nothing else is said."""
        if not any(label in self.labels for label in names.values()):
            return self
        own = {name: label if label in self.labels else None for name, label in names.items()}
        return LabelMap(self.labels, self.names, {**own, **self.defaults}, self.setting)

    def knows(self, name: str) -> bool:
        return same_name(name) in self._known

    def target_at(
        self, row: TableRow, name: str, *, publisher_says: str = "", open_ended: bool = False
    ) -> dict[str, float] | None:
        """`target(name)`; its error points at `row`.

        `publisher_says` is the set's own word on malignancy (`malignant`, `benign`, or another, which is neither): for
        a task that asks for it, it counts before any default. `open_ended`: a name that nobody knows is left out.
        """
        if publisher_says and self.knows(publisher_says) and same_name(name) not in self._said:
            return self.target(publisher_says)
        if not self.knows(name) and open_ended:
            return None
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
            raise DataError(f"unknown label '{quoted(name)}'; correct it, or add it to {self.setting} (known: {known})")
        label = self._known[same_name(name)]
        if label is None:
            return None
        return one_hot(label, self.labels) if label else dict.fromkeys(self.labels, 0.0)
