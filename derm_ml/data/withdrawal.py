"""Takes an accepted delivery out of a raw folder again: it is kept, the next dataset is without it.

    gone = withdraw(data / "raw" / task.name, "2026-11-20", data / "withdrawn" / task.name)
    learned = models_trained_on(gone.delivery, out / task.name, data / "versions" / task.name)

The images of other deliveries stay in their splits. What the delivery had corrected is as it was before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from derm_ml import formats
from derm_ml.data.deliveries import Delivery, deliveries
from derm_ml.data.staging import only_one
from derm_ml.model_folder import CARD, model_folders
from derm_ml.records import DELIVERIES, DataError


@dataclass(frozen=True, slots=True)
class WithdrawnDelivery:
    """A delivery that was taken out, and where it lies now."""

    delivery: Delivery
    folder: Path

    def __str__(self) -> str:
        undone = len(self.delivery.corrections)
        also = f" and {undone} corrections of known images" if undone else ""
        return f"{self.delivery.taken} images{also} of {self.delivery.name} were withdrawn to {self.folder}"


def withdraw(raw: Path, name: str, withdrawn: Path) -> WithdrawnDelivery:
    """Move the delivery called `name` (as delivered, or its folder's name) out of `raw` to `withdrawn`.

    Raises `DataError`, naming what there is, for a name that no delivery has, or more than one.
    """
    with only_one(raw):
        known = deliveries(raw)
        found = [d for d in known if name in (d.name, Path(d.folder).name)]
        if len(found) != 1:
            there = ", ".join(Path(d.folder).name for d in (found or known)) or "none"
            why = "several deliveries have this name" if found else f"no accepted delivery is called '{name}'"
            raise DataError(f"{raw / DELIVERIES}: {why}; give one of: {there}")
        source, target = raw / found[0].folder, withdrawn / Path(found[0].folder).name
        if target.exists():
            raise DataError(f"{target} is there already, from an earlier withdrawal: move it away, then withdraw again")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        if not any((raw / DELIVERIES).iterdir()):
            (raw / DELIVERIES).rmdir()
        return WithdrawnDelivery(found[0], target)


def models_trained_on(delivery: Delivery, models: Path, versions: Path) -> list[Path]:
    """The model folders below `models` whose dataset holds images of the delivery, as far as that dataset is kept."""
    return sorted(folder for folder, md5 in _datasets_of(models) if delivery.folder in _sources(versions / md5))


def _datasets_of(models: Path) -> Iterator[tuple[Path, str]]:
    for folder in model_folders(models):
        card = folder.bundle / CARD
        stored = formats.BUNDLE.read(json.loads(card.read_text(encoding="utf-8")), card, DataError)
        yield folder.path, str(stored.get("dataset_md5", "")).removesuffix(".dir")


def _sources(dataset: Path) -> set[str]:
    """The deliveries a dataset was made from."""
    path = dataset / "dataset.json"
    if not path.is_file():
        return set()
    sources = formats.DATASET.read(json.loads(path.read_text(encoding="utf-8")), path, DataError)["sources"]
    return {"/".join(source.split("/")[:2]) for source in sources}
