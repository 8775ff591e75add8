"""What the conditions ask of the champion and of the ledger, many times an hour: read once for each state of the two.

They are asked in the code server, where there are no resources: the environment names the installation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from derm_assets.lineage import Upstream
from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.bundles.bundle import Bundle
from derm_ml.places import installation
from derm_ml.promotion.ledger import Approved, Ledger, Standing, standing
from derm_ml.registry import get_task
from derm_ml.task import Task

_SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class ChampionFacts:
    """New patients in a dataset since the champion (all of them without one), and its age in days (None without)."""

    new_patients: int
    days: float | None


def standing_of(task: Task) -> Standing:
    """Who is champion, by the ledger's own chain; the registry is not asked. Raises `LedgerError`."""
    return standing(Ledger.of(installation(), task.name).entries())


def approval_of(task: Task) -> Approved | None:
    """The approval that waits for a promotion, if there is one. Raises `LedgerError`."""
    return standing_of(task).approved


def champion_facts(task: Task, dataset: Upstream) -> ChampionFacts:
    """Compare a dataset with what the champion learned from. Raises `DermError` where either cannot be read."""
    number = standing_of(task).champion
    new = _new_patients(task.name, str(dataset.path), number)
    trained = None if number is None else _trained(task.name, number)
    return ChampionFacts(
        new, None if trained is None else (datetime.now(UTC) - trained).total_seconds() / _SECONDS_A_DAY
    )


@lru_cache(maxsize=32)
def _new_patients(task_name: str, dataset: str, number: int | None) -> int:
    """A dataset's frozen folder and a registered version never change."""
    from derm_ml.data.dataset import Dataset
    from derm_ml.data.learned_ids import LEARNED_SPLITS, LearnedIds

    data = Dataset.open(Path(dataset))
    if number is None:
        rows = data.manifest.loc[data.manifest["split"].isin(LEARNED_SPLITS)]
        return len(set(rows["group"].astype(str)))
    champion = ModelRegistry.from_environment().read(get_task(task_name), number)
    return LearnedIds.of(Bundle.open_trusted(champion.bundle)).new_patients(data)


@lru_cache(maxsize=32)
def _trained(task_name: str, number: int) -> datetime:
    return ModelRegistry.from_environment().registered_at(get_task(task_name), number)
