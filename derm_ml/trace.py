"""One chain of ids, walked from either end: prediction ↔ Bento ↔ version ↔ run ↔ dataset ↔ delivery ↔ commit.

    chain = chain_of("c962a05e…", versions, sources, records)       any id of the chain
    models_that_know("patient", "17", bundles)                      whose consent was withdrawn: which models

What joins them is written by each step into what it makes: the dataset names its deliveries, the bundle its dataset and
commit, the registry its run and Bento, each answer its model and Bento. Nothing is guessed from names or times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derm_ml import DermError, formats
from derm_ml.answered.journal import CHALLENGER
from derm_ml.bundles.bundle import Bundle
from derm_ml.data.deliveries import deliveries
from derm_ml.data.learned_ids import LearnedIds
from derm_ml.neutral_ids import installation_ids
from derm_ml.promotion.contract import Registered
from derm_ml.records import DELIVERIES, DataError, normal_id

SHORTEST = 6  # characters by which an id may be named


class TraceError(DermError, ValueError):
    """Nothing of the chain has this id."""


@dataclass(frozen=True, slots=True)
class Link:
    """A registered version with what lies before it (deliveries) and after it (predictions)."""

    version: Registered
    deliveries: tuple[str, ...] = ()
    predictions: int = 0


@dataclass(frozen=True, slots=True)
class Chain:
    """Everything that hangs together with an id: one row a version, and the records that have the id itself."""

    given: str
    links: tuple[Link, ...] = ()
    records: tuple[Mapping[str, Any], ...] = ()


def chain_of(
    given: str,
    versions: Sequence[Registered],
    sources: Mapping[str, Sequence[str]],
    records: Sequence[Mapping[str, Any]],
) -> Chain:
    """Walk from `given`: a prediction, the sha256 of an image, a Bento, the number or model of a version, an MLflow or
    Dagster run, a dataset's md5, a delivery, a commit; ids may be shortened to six characters.

    `sources`: md5 of a dataset → the deliveries in it; `records`: rows of the prediction records.
    Raises `TraceError` where nothing has this id.
    """
    wanted = given.strip().removesuffix(".dir")
    told = [row for row in records if _is(wanted, row["prediction_id"]) or any(_is(wanted, i) for i in row["images"])]
    models = {str(row["model_version"]) for row in told}
    found = [
        version
        for version in versions
        if version.model_version in models
        or _names(version, wanted)
        or any(wanted and wanted in (name, name.split("/")[-1]) for name in sources.get(_md5(version), ()))
    ]
    if not found and not told:
        raise TraceError(
            f"nothing here is called {given}: it is no prediction, image, Bento, version, run, dataset, delivery or "
            "commit of the registry and the records on this machine"
        )
    counts = {
        v.model_version: sum(
            row["model_version"] == v.model_version and row.get("role") != CHALLENGER for row in records
        )
        for v in found
    }
    links = [Link(v, tuple(sources.get(_md5(v), ())), counts[v.model_version]) for v in found]
    return Chain(given, tuple(links), tuple(told))


def sources_of(versions: Path, raw: Path) -> dict[str, list[str]]:
    """md5 of each frozen dataset → the deliveries and sources it was made of, deliveries by the name they came with."""
    names = {d.folder: d.name for d in deliveries(raw)} if raw.is_dir() else {}
    found: dict[str, list[str]] = {}
    for path in sorted(versions.glob("*/dataset.json")):
        stored = formats.DATASET.read(json.loads(path.read_text(encoding="utf-8")), path, DataError)
        folders = dict.fromkeys(_folder_of(source) for source in stored.get("sources", {}))
        found[path.parent.name] = [names.get(folder, folder) for folder in folders]
    return found


@dataclass(frozen=True, slots=True)
class Knows:
    """Whether a model learned from an image or a person; `unsure` says why that cannot be told."""

    name: str
    knows: bool
    unsure: str = ""


def models_that_know(kind: str, value: str, bundles: Iterable[tuple[str, Callable[[], Path]]]) -> list[Knows]:
    """For each (name, what opens its bundle) whether its training or validation data held an image (`value`: the
    sha256 it is stored with), or anything of a patient or a lesion (`value`: the ID as the lists of the data set say).

    An ID is looked for as if it meant the same person in all sources. The installation's secret is needed.
    """
    text = value if kind == "image" else f"\0{normal_id(value)}"
    wanted, told = installation_ids().of(kind, text), []
    for name, find in bundles:
        try:
            told.append(Knows(name, wanted in LearnedIds.of(Bundle.open(find())).ids[kind]))
        except DermError as error:  # one that is damaged or under another secret hides none of the others
            told.append(Knows(name, False, str(error)))
    return told


def _names(version: Registered, wanted: str) -> bool:
    exact = (str(version.number), version.bento.rpartition(":")[2], version.bento)
    long = (version.model_version, version.run, version.dataset_md5, version.git_commit, *version.dagster_runs)
    return (bool(wanted) and wanted in exact) or any(_is(wanted, one) for one in long)


def _is(wanted: str, one: object) -> bool:
    return len(wanted) >= SHORTEST and str(one).startswith(wanted)


def _md5(version: Registered) -> str:
    return version.dataset_md5.removesuffix(".dir")


def _folder_of(source: str) -> str:
    return "/".join(source.split("/")[:2]) if source.split("/")[0] == DELIVERIES else source
