"""What single-label lists and class folders of retinal photographs call their findings.

    FindingMap((), {"amd": …}).target("No_DR")   → {"diabetic_retinopathy": 0.0}

A name that is none of these is a finding of its own, as a column of a table is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from derm_ml.data.diagnoses import normal
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import DataError

DIABETIC, NORMAL = "diabetic_retinopathy", "normal"
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    NORMAL: ("healthy", "normal_fundus", "natural", "n"),
    "glaucoma": ("glaucomatous", "g"),
    "opacity": ("cataract", "media_opacity", "c"),
    "macular_degeneration": ("amd", "armd", "age_related_macular_degeneration", "a"),
    "macular_edema": ("dme", "diabetic_macular_edema"),
    "vascular_occlusion": ("retinal_vascular_occlusion", "rvo"),
    "hypertensive_retinopathy": ("hypertension", "h"),
    "myopia": ("pathological_myopia", "m"),
    DIABETIC: (
        "dr", "diabetic", "diabetes", "d", "mild", "moderate", "severe", "proliferate_dr", "proliferative_dr",
        "proliferative", "mild_dr", "moderate_dr", "severe_dr", "mild_npdr", "moderate_npdr", "severe_npdr", "pdr",
        "npdr",
    ),
}  # fmt: skip
_NO_DR = ("no_dr", "nodr", "no_diabetic_retinopathy")  # another disease may still be there
_FINDING = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in (name, *spellings)}


@dataclass(frozen=True)
class FindingMap(LabelMap):
    """As a `LabelMap`, for a task whose labels are what the data hold: a name is a finding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {normal(name): label for name, label in (self.names or {}).items()})
        object.__setattr__(self, "_said", frozenset(self._known))

    def knows(self, name: str) -> bool:
        return normal(name) in {*self._known, *_FINDING, *_NO_DR}

    def target(self, name: str) -> dict[str, float] | None:
        """Finding → 1 or 0, of those a name says something about; None for one that is left out."""
        plain = normal(name)
        if plain in self._known:
            own = self._known[plain]
            return None if own is None else {own: 1.0}
        if plain in _NO_DR:
            return {DIABETIC: 0.0}
        finding = _FINDING.get(plain, plain)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", finding):
            raise DataError(f"'{quoted(name)}' cannot name a finding; use letters, digits and spaces")
        return {finding: 1.0} if finding in (NORMAL, plain) or finding != DIABETIC else {DIABETIC: 1.0, NORMAL: 0.0}
