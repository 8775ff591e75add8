"""What a model learned from, as neutral ids: so that no later test split can hold an image, patient or lesion it knows.

    learned = learned_from(dataset, ancestors=[teacher])     before training: fails early where a teacher is unknown
    learned.write(folder)                                    `learned.json`; `seal` puts its sha256 in the card
    LearnedIds.of(bundle).in_split(dataset, "test")          sentences; empty where the split is new to the model

The ids are keyed with the installation's secret (derm_ml/neutral_ids.py): the file tells nobody who the patients are.
It stays with the bundle in the registry and does not go into a service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derm_ml import formats
from derm_ml.bundles.bundle import CARD, LEARNED, Bundle, BundleError
from derm_ml.files import write_json
from derm_ml.neutral_ids import installation_ids
from derm_ml.records import namespace, normal_id

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.data.dataset import Dataset
    from derm_ml.recipe import Recipe

KINDS = ("image", "patient", "lesion")
LEARNED_SPLITS = ("train", "validation")  # validation chose epoch, calibration and thresholds
_NAMED = 3  # images that a sentence names as examples


@dataclass(frozen=True, slots=True)
class LearnedIds:
    """The neutral ids of every image, patient and lesion in the training and validation data, under one secret."""

    key_id: str
    ids: Mapping[str, frozenset[str]]  # kind → ids

    def write(self, folder: Path) -> None:
        """Write `learned.json`, sorted, so that the same data give the same bytes."""
        ids = {kind: sorted(self.ids[kind]) for kind in KINDS}
        write_json(folder / LEARNED, formats.LEARNED.stamped({"key_id": self.key_id, **ids}))

    @classmethod
    def of(cls, bundle: Bundle) -> LearnedIds:
        """What a bundle learned from. Raises `BundleError` where it does not say so, or under another secret."""
        path, named = bundle.path / LEARNED, bundle.card.learned
        if named is None or not path.is_file():
            raise BundleError(
                f"{bundle.path} does not say which images it learned from ({LEARNED} is missing), so it cannot be "
                "shown that it does not know the test images: train the model again"
            )
        here = installation_ids().key_id
        if named.key_id != here:
            raise BundleError(
                f"{path} was made under another secret (key {named.key_id}, here {here}): set DERM_SECRET to the "
                "secret of the installation that trained the model"
            )
        text = path.read_text(encoding="utf-8")  # `Bundle.open` compared its sha256
        stored = formats.LEARNED.read(json.loads(text), path, BundleError)
        return cls(stored["key_id"], {kind: frozenset(stored[kind]) for kind in KINDS})

    def in_split(self, dataset: Dataset, split: str) -> list[str]:
        """One sentence for each kind of which the split holds something this model learned from."""
        secret, apart = installation_ids(), [dataset.info["settings"].get("patients", "per_source")]
        found: dict[str, list[str]] = {kind: [] for kind in KINDS}
        rows = dataset.split(split).to_dict("records")
        for row in rows:
            for kind in {kind for kind, value in _keys(row, apart) if secret.of(kind, value) in self.ids[kind]}:
                found[kind].append(str(row["id"]))
        whose = {"image": "", "patient": "the patients of ", "lesion": "the lesions of "}
        return [
            f"{whose[kind]}{len(names)} of the {len(rows)} {split} images (e.g. {', '.join(names[:_NAMED])}) are in "
            "the data the model learned from or was validated on"
            for kind, names in found.items()
            if names
        ]

    def new_patients(self, dataset: Dataset) -> int:
        """How many independent groups (a patient, a lesion, or an image where neither is known) of the training and
        validation splits hold nothing this model learned from."""
        secret, apart = installation_ids(), [dataset.info["settings"].get("patients", "per_source")]
        rows = dataset.manifest.loc[dataset.manifest["split"].isin(LEARNED_SPLITS)]
        known = {
            str(row["group"])
            for row in rows.to_dict("records")
            if any(secret.of(kind, value) in self.ids[kind] for kind, value in _keys(row, apart))
        }
        return len(set(rows["group"].astype(str)) - known)


def learned_from(dataset: Dataset, extra: pd.DataFrame | None = None, ancestors: Iterable[Path] = ()) -> LearnedIds:
    """The ids of the training and validation splits, of `extra` rows that are learned from (pseudo-labelled images),
    and of all that the bundles `ancestors` learned from: a teacher, or the model whose weights are the start.

    Raises `BundleError` for an ancestor that does not say what it learned from.
    """
    secret = installation_ids()
    rows = dataset.manifest.loc[dataset.manifest["split"].isin(LEARNED_SPLITS)].to_dict("records")
    rows += [] if extra is None else extra.to_dict("records")
    ids: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for row in rows:
        for kind, value in _keys(row, ("shared", "per_source")):  # whatever a later dataset says of its sources
            ids[kind].add(secret.of(kind, value))
    for path in ancestors:
        before = LearnedIds.of(Bundle.open(path))
        for kind in KINDS:
            ids[kind] |= before.ids[kind]
    return LearnedIds(secret.key_id, {kind: frozenset(found) for kind, found in ids.items()})


def started_from(recipe: Recipe) -> list[Path]:
    """The bundle whose weights the recipe starts from, if `pretrained` names the weights of one."""
    folder = Path(str(recipe.flat().get("pretrained", ""))).parent
    return [folder] if (folder / CARD).is_file() and folder != Path() else []


def _keys(row: Mapping[Any, Any], apart: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(kind, value) of everything a sample is known by: its stored photos, its patient, its lesion.

    `apart`: the settings `patients` under which patient and lesion ids are to be known, see `records.namespace`.
    """
    for column, value in row.items():
        if column.endswith(".sha256") and column != "mask.sha256" and isinstance(value, str):
            yield "image", value
    for kind in ("patient", "lesion"):
        if row.get(kind):
            for patients in apart:
                yield kind, f"{namespace(str(row['source']), patients)}\0{normal_id(str(row[kind]))}"
