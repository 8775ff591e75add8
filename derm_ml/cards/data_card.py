"""The data card: the images of a dataset, where they come from, how they are split, and what is not used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from derm_ml.cards.card import Card, CardField, Section
from derm_ml.cards.statement import Statement
from derm_ml.provenance import Made, when_and_by
from derm_ml.records import FROZEN, UNLABELLED

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.task import Task

_PREPARE = "prepare the data again"
_PEOPLE = ("age", "sex", "site")  # attributes that say whom the images show


def data_card(task: Task, dataset: Dataset) -> Card:
    """The card of a prepared dataset. It names no image, no patient and no file."""
    said, info = Statement.of(task), dataset.info
    mend = "say `licence` of the images in params.yaml, then prepare the data again"
    settings = [{"setting": name, "value": str(value)} for name, value in info["settings"].items()]
    standard = Statement.advice(task, "reference_standard")
    return Card(
        "data card",
        f"{task.title}: dataset {dataset.md5}",
        (
            Section(
                "Composition",
                (
                    CardField("dataset", dataset.md5, _PREPARE),
                    CardField("images", _sizes(dataset), _PREPARE),
                    CardField("labels", _labels(info["counts"]), _PREPARE),
                    CardField("people", _people(dataset.manifest)),
                    CardField("population", said.population, Statement.advice(task, "population")),
                ),
            ),
            Section(
                "Sources and licences",
                (
                    CardField("sources", _counted("source", info.get("sources", {})), _PREPARE),
                    CardField("licences", _counted("licence", dataset.licences), mend),
                    CardField("reference standard", said.reference_standard, standard),
                ),
            ),
            Section(
                "Splits",
                (
                    CardField("hashes", [{"split": n, "sha256": v} for n, v in dataset.split_hashes.items()], _PREPARE),
                    CardField("disjoint by", "patient, lesion and near-duplicate, across all sources"),
                    CardField("near-duplicate pairs", str(len(dataset.duplicates))),
                ),
            ),
            Section(
                "What is not used",
                (
                    CardField("quarantined", str(len(dataset.quarantine) - len(dataset.held_back))),
                    CardField("held back because they would leak", str(len(dataset.held_back))),
                ),
            ),
            Section(
                "Preparation",
                (
                    CardField("settings", settings, _PREPARE),
                    CardField("card written", f"{when_and_by(Made.now())}, on {Made.now().machine}"),
                ),
            ),
        ),
    )


def _sizes(dataset: Dataset) -> list[dict[str, Any]]:
    """Images, patients and independent groups of each split."""
    rows = []
    for split in (*FROZEN, UNLABELLED):
        found = dataset.split(split)
        if len(found):
            patients = len(set(found["patient"]) - {""})
            rows.append({"split": split, "images": len(found), "patients known": patients,
                         "independent groups": found["group"].nunique()})  # fmt: skip
    return rows


def _labels(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for by_label in counts.values() for name in by_label))
    return [{"label": name, **{split: by.get(name, 0) for split, by in counts.items()}} for name in names]


def _counted(what: str, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{what: name, "images": n} for name, n in counts.items()]


def _people(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Of how many images age, sex and site are known, and how they are distributed."""
    rows = []
    for name in _PEOPLE:
        if f"attribute.{name}" not in manifest:
            rows.append({"attribute": name, "known": 0, "distribution": "not recorded"})
            continue
        column = pd.Series(manifest[f"attribute.{name}"])
        known = column.loc[column.notna() & (column.astype(str) != "")]
        rows.append({"attribute": name, "known": len(known), "distribution": _distribution(known)})
    return rows


def _distribution(known: pd.Series) -> str:
    if known.empty:
        return "not recorded"
    if pd.api.types.is_numeric_dtype(known):
        low, middle, high = (float(q) for q in known.astype(float).quantile([0.25, 0.5, 0.75]))
        return f"median {middle:.0f}, quartiles {low:.0f} and {high:.0f}"
    counts = known.astype(str).value_counts()
    return ", ".join(f"{name} {n}" for name, n in counts.head(8).items())
