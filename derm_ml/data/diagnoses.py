"""What publishers call a skin lesion → one diagnosis, whether it is malignant, and which label it counts as.

`diagnoses.yaml` is the one list of names; every reader and every setting goes through it, so that `bcc`,
`Basal cell carcinoma` and `BASAL_CELL_CARCINOMA` are one diagnosis wherever they stand.

    >>> diagnosis_of("BCC"), diagnosis_of("basal cell carcinoma")
    ('basal_cell_carcinoma', 'basal_cell_carcinoma')
    >>> diagnosis_of("my own name") is None
    True
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

_FILE = Path(__file__).with_name("diagnoses.yaml")


class Diagnosis(BaseModel):
    """One entry of diagnoses.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    names: list[str]
    malignant: bool | None = None
    lesion: str | None = None
    covers: list[str] = []
    why: str = ""


def normal(name: str) -> str:
    """`"Seborrheic  Keratosis"` → `"seborrheic_keratosis"`."""
    return re.sub(r"[\s_\-]+", "_", name.strip().lower())


@cache
def diagnoses() -> dict[str, Diagnosis]:
    """Diagnosis → its entry, in the order of the file."""
    return {name: Diagnosis(**entry) for name, entry in yaml.safe_load(_FILE.read_text(encoding="utf-8")).items()}


def malignant_diagnoses() -> list[str]:
    """The diagnoses that are malignant, by the first of their names: `mel`, `bcc`, …"""
    return [entry.names[0] for entry in diagnoses().values() if entry.malignant]


@cache
def _by_name() -> dict[str, str]:
    own = {name: name for name in diagnoses()}
    return {normal(spelling): name for name, entry in diagnoses().items() for spelling in entry.names} | own


def diagnosis_of(name: str) -> str | None:
    """The diagnosis a name means, or None for one that is not in the list."""
    return _by_name().get(normal(name))


def same_name(name: str) -> str:
    """The form in which names of labels are compared: the diagnosis where it is one, else the name without case."""
    return diagnosis_of(name) or normal(name)


def meant_by(name: str) -> frozenset[str]:
    """What a setting that names `name` means: that diagnosis, and every mixed one that covers it."""
    own = same_name(name)
    return frozenset({own, *(mixed for mixed, entry in diagnoses().items() if own in entry.covers)})
