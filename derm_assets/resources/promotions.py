"""Promotion as the pipeline and the command line ask for it: versions, datasets, ledger and released service together.

    promotions = Promotions(registry)
    promotions.promote(task, bundle) → Decision     what `derm promote` calls

datasets.py measures again what must be; derm_ml.promotion decides, and says in which order aliases move.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derm_assets.packaging import release_again, service_check
from derm_assets.resources.datasets import Datasets, evaluation_of
from derm_assets.resources.mlflow_client import RegistryError
from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation.record import SUMMARY
from derm_ml.files import sha256
from derm_ml.promotion import CHALLENGER, CHAMPION, ModelVersion
from derm_ml.promotion.approval import approve
from derm_ml.promotion.decision import Decision, evidence_of, weigh
from derm_ml.promotion.doctor import Check, examine
from derm_ml.promotion.ledger import Ledger, Standing, standing
from derm_ml.promotion.transaction import (
    champion_of,
    looked_at,
    promote,
    read_champion,
    reinstate,
    rollback,
    withdrawn_because,
)
from derm_ml.task import Task


@dataclass(frozen=True, slots=True)
class Promotions:
    """Who is champion, and why (`derm_ml.promotion.Registry`)."""

    registry: ModelRegistry

    def champion(self, task: Task) -> Path:
        """The champion's bundle. Raises `RegistryError` if there is none, `PromotionError` if ledger and registry
        disagree who it is, or its files are not those that were promoted.
        """
        version = self.champion_version(task)
        if version is None:
            raise RegistryError(f"{task.name} has no champion: train a model, then `derm promote {task.name} MODEL`")
        return version.bundle

    def champion_version(self, task: Task) -> ModelVersion | None:
        """The champion that ledger and registry agree on; None if there is none. Raises as `champion` does."""
        return read_champion(task, self.registry, champion_of(task, self.registry, self.ledger(task)))

    def promote(self, task: Task, bundle: Path, *, dry_run: bool = False) -> Decision:
        """Decide whether a bundle becomes the champion; unless `dry_run`, register it and carry the decision out.

        The look at the test split is counted either way.
        """
        evaluation = evaluation_of(bundle)
        if not dry_run:
            return self.promote_version(task, self.registry.register(task, bundle, evaluation).number)
        return self._weighed(task, ModelVersion(0, bundle, evaluation))

    def promote_version(self, task: Task, number: int) -> Decision:
        """Decide on a registered version, move the aliases, write the ledger."""
        return promote(task, number, self.registry, self.ledger(task), self._data)

    def preview(self, task: Task, number: int) -> Decision:
        """What a promotion of a registered version would decide now; no alias moves, the look is counted."""
        return self._weighed(task, self.registry.read(task, number))

    def _weighed(self, task: Task, candidate: ModelVersion) -> Decision:
        ledger = self.ledger(task)
        now = champion_of(task, self.registry, ledger)
        model = Bundle.open_trusted(candidate.bundle).version
        if now.champion is not None and (candidate.number == now.champion or self._is_champion(task, model, candidate)):
            return Decision(True, (f"version {now.champion} is the champion already",))
        if why := withdrawn_because(task, Bundle.open_trusted(candidate.bundle), now):
            return Decision(False, (why,))
        evidence = evidence_of(task, candidate, self._data)
        looked = looked_at(evidence, ledger, now, "dry run")
        return weigh(task, evidence, read_champion(task, self.registry, now), self._data, looked)

    def _is_champion(self, task: Task, model: str, candidate: ModelVersion) -> bool:
        """Whether a folder holds what registering would find to be the champion: its model and its evaluation."""
        champion = self.champion_version(task)
        return (
            champion is not None
            and Bundle.open(champion.bundle).version == model
            and sha256(champion.evaluation / SUMMARY) == sha256(candidate.evaluation / SUMMARY)
        )

    def reached(self) -> str:
        """Where the registry is; raises `RegistryError` if it cannot be used."""
        return self.registry.reached()

    def challenger(self, task: Task) -> int | None:
        """The version that was registered last and asks to be champion; None if there is none, or it is champion."""
        number = self.registry.alias(task, CHALLENGER)
        return None if number == self.registry.alias(task, CHAMPION) else number

    def approve(self, task: Task, number: int | None, by: str) -> str:
        """Write into the ledger that a person approves a version (None: the challenger)."""
        return approve(task, number, self.registry, self.ledger(task), by)

    def rollback(self, task: Task, why: str, *, leave_empty: bool = False) -> str:
        """Withdraw the champion and restore the one before; its Bento is released again, if it is still there."""
        said = rollback(task, self.registry, self.ledger(task), why, leave_empty)
        return f"{said}; {release_again(task.name, self.standing(task))}"

    def reinstate(self, task: Task, number: int, why: str) -> str:
        """Let a withdrawn version be promoted again."""
        return reinstate(task, number, self.registry, self.ledger(task), why)

    def history(self, task: Task) -> list[dict[str, Any]]:
        """All entries of the ledger, verified."""
        return self.ledger(task).entries()

    def standing(self, task: Task, at: str = "") -> Standing:
        """Who is champion, or was at a time (ISO 8601, UTC); the ledger verified."""
        return standing(self.ledger(task).entries(), at)

    def doctor(self, task: Task, *, repair: bool = False, why: str = "") -> list[Check]:
        """Ledger, alias and files of the champion, then its data, its secret and its service."""
        checks = examine(task, self.registry, self.ledger(task), repair=repair, why=why)
        if not all(check.ok for check in checks):
            return checks
        now = self.standing(task)
        if now.champion is not None:
            checks += self._data.examine(task, Bundle.open(self.registry.read(task, now.champion).bundle))
        return [*checks, service_check(task.name, now, repair)]

    def ledger(self, task: Task) -> Ledger:
        """The task's promotion ledger; the hash of its last line is kept in a tag of the registered model."""
        return Ledger(self.registry.places.ledger(task), self.registry.anchor(task))

    @property
    def _data(self) -> Datasets:
        return Datasets(self.registry.places)
