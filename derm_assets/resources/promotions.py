"""Promotion as the pipeline and the command line ask for it: versions, datasets, ledger and released service together.

    promotions = Promotions(registry)
    promotions.promote(task, bundle) → Decision     what `derm promote` calls

datasets.py measures again what must be; derm_ml.promotion decides, and says in which order aliases move.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derm_assets.packaging import bentos_shown, release_again, service_check
from derm_assets.resources.datasets import Datasets, evaluation_of
from derm_assets.resources.mlflow_client import RegistryError
from derm_assets.resources.model_registry import Beside, ModelRegistry
from derm_assets.resources.version_page import STATE
from derm_ml import DermError
from derm_ml.bundles.bundle import Bundle, read_card
from derm_ml.cards.pages import as_markdown, cards_of, save_cards
from derm_ml.evaluation.record import Evaluation
from derm_ml.model_folder import CARDS, ModelFolder
from derm_ml.promotion import CHALLENGER, CHAMPION, ModelVersion
from derm_ml.promotion.approval import approve
from derm_ml.promotion.beside import Champion
from derm_ml.promotion.contract import Registered
from derm_ml.promotion.decision import Decision, evidence_of, weigh
from derm_ml.promotion.doctor import Check, examine
from derm_ml.promotion.ledger import Ledger, Standing, standing
from derm_ml.promotion.report import show_again
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

if TYPE_CHECKING:
    from derm_ml.cards.card import Card
    from derm_ml.data.dataset import Dataset
    from derm_ml.data.incoming import Look

logger = logging.getLogger(__name__)


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

    def champion_on(self, task: Task, dataset_md5: str) -> Champion | None:
        """The champion with what was measured of it on that dataset; None if there is none. Raises as `champion`."""
        version = self.champion_version(task)
        return None if version is None else Champion(version.number, self._data.measured(version, task, dataset_md5))

    def reviewer(self, task: Task) -> Look:
        """How the champion looks at a delivery; where there is none, nobody does. Raises as `champion` does."""
        from derm_ml.data.incoming import nobody_looks
        from derm_ml.evaluation.review import reviewed

        champion = self.champion_version(task)
        if champion is None:
            return nobody_looks
        own = Evaluation.load(champion.evaluation)
        return lambda trial, ids: reviewed(task, task.load(champion.bundle), own, trial, ids)

    def registered(self, task: Task) -> list[Registered]:
        """All registered versions, oldest first; no file of them is read."""
        return self.registry.registered(task)

    def bundle(self, task: Task, number: int) -> Path:
        """The verified bundle of a version. Raises `DermError` if it is gone or changed."""
        return self.registry.read(task, number).bundle

    def register(
        self,
        task: Task,
        bundle: Path,
        evaluation: Path,
        tags: Mapping[str, str] | None = None,
        links: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """Register a bundle with its evaluation, and with what a reviewer decides on."""
        beside = Beside(links=links or {})
        if cards := self.cards(task, bundle, evaluation):
            folder = save_cards(cards, ModelFolder.holding(bundle).artifact(CARDS))
            beside = Beside(folder, as_markdown(cards[0]), self._own_data(task, bundle), beside.links)
        md5 = Evaluation.load(evaluation).dataset_md5
        show_again(task, evaluation, lambda: self.champion_on(task, md5))
        version = self.registry.register(task, bundle, evaluation, tags, beside)
        self.show(task)
        return version

    def promote(self, task: Task, bundle: Path, *, dry_run: bool = False) -> Decision:
        """Decide whether a bundle becomes the champion; unless `dry_run`, register it and carry the decision out.

        The look at the test split is counted either way. The champion, measured again, is not registered again.
        """
        read_card(bundle)  # that nothing was trained here is said before that nothing was measured
        evaluation = evaluation_of(bundle)
        if dry_run:
            return self._weighed(task, ModelVersion(0, bundle, evaluation))
        try:
            champion = self._champion_with(task, Bundle.open_trusted(bundle).version)
        except DermError:  # the promotion says so, and writes it into the ledger
            champion = None
        number = champion.number if champion else self.register(task, bundle, evaluation).number
        return self.promote_version(task, number)

    def promote_version(self, task: Task, number: int) -> Decision:
        """Decide on a registered version, move the aliases, write the ledger."""
        decision = promote(task, number, self.registry, self.ledger(task), self._data)
        self.show(task)
        return decision

    def preview(self, task: Task, number: int) -> Decision:
        """What a promotion of a registered version would decide now; no alias moves, the look is counted."""
        return self._weighed(task, self.registry.read(task, number))

    def beside_champion(self, task: Task, candidate: ModelVersion, champion: ModelVersion | None) -> Path | None:
        """The page of a comparison of a candidate with the champion, of what a decision has measured.

        None, and a line in the log says why, where there is none to compare with or nothing that can be compared.
        """
        from derm_ml.evaluation.comparison import MeasuredModel, compare
        from derm_ml.evaluation.comparison_report import PAGE
        from derm_ml.promotion.report import save_compared

        if champion is None or champion.number == candidate.number:
            return None
        try:
            md5 = self._data.present(task) or Evaluation.load(candidate.evaluation).dataset_md5
            found = [self._data.measured(model, task, md5) for model in (champion, candidate)]
            if found[0] is None or found[1] is None:
                logger.info("version %s was not measured beside the champion", candidate.number)
                return None
            runs = (MeasuredModel("champion", found[0]), MeasuredModel("candidate", found[1]))
            here = self.registry.places.here
            folder = here.beside_champion(task.name, found[1].model_version)
            return save_compared(task, compare(runs, task), folder, here) / PAGE
        except DermError as error:  # the decision stands without the page
            logger.warning("version %s is not shown beside the champion: %s", candidate.number, error)
            return None

    def _weighed(self, task: Task, candidate: ModelVersion) -> Decision:
        ledger = self.ledger(task)
        now = champion_of(task, self.registry, ledger)
        model = Bundle.open_trusted(candidate.bundle)
        if now.champion is not None and (candidate.number == now.champion or self._champion_with(task, model.version)):
            return Decision.champion_already(now.champion)
        if why := withdrawn_because(task, model, now):
            return Decision(False, (why,))
        evidence = evidence_of(task, candidate, self._data)
        looked = looked_at(evidence, ledger, now, "dry run")
        return weigh(task, evidence, read_champion(task, self.registry, now), self._data, looked)

    def _champion_with(self, task: Task, model_version: str) -> ModelVersion | None:
        """The champion, if it is that very model, whatever was measured of it since, and no move of it is under way."""
        now = champion_of(task, self.registry, self.ledger(task))
        if now.pending or now.model_version != model_version:
            return None
        return read_champion(task, self.registry, now)

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
        released = release_again(task.name, self.standing(task))
        self.show(task)
        return f"{said}; {released}"

    def reinstate(self, task: Task, number: int, why: str) -> str:
        """Let a withdrawn version be promoted again."""
        said = reinstate(task, number, self.registry, self.ledger(task), why)
        self.show(task)
        return said

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
        checks.append(service_check(task.name, now, repair))
        if repair:
            self.show(task)
        return checks

    def cards(self, task: Task, bundle: Path, evaluation: Path) -> tuple[Card, ...]:
        """The model card and the data card of a model; none where its data are not here."""
        data = self._own_data(task, bundle)
        return () if data is None else cards_of(task, Bundle.open(bundle), Evaluation.load(evaluation), data)

    def _own_data(self, task: Task, bundle: Path) -> Dataset | None:
        """The dataset a model was trained with; None where it is not here, which its promotion will say."""
        try:
            return self._data.dataset(task, Bundle.open(bundle).card.dataset_md5)
        except DermError as error:
            logger.warning("%s is registered without its dataset: %s", bundle, error)
            return None

    def show(self, task: Task) -> None:
        """Repeat in the registry's tags what ledger and release file say; they decide, the tags are for people.

        What it is called after is done: a registry that cannot be reached now is logged, and written at the next call.
        """
        try:
            self.registry.show(task, _states(self.standing(task)), bentos_shown(task.name))
        except DermError as error:
            logger.warning("the tags of the versions of %s were not brought up to date: %s", task.name, error)

    def ledger(self, task: Task) -> Ledger:
        """The task's promotion ledger; the hash of its last line is kept in a tag of the registered model."""
        return Ledger.of(self.registry.places.here, task.name, self.registry.anchor(task))

    @property
    def _data(self) -> Datasets:
        return Datasets(self.registry.places)


def _states(now: Standing) -> dict[int, dict[str, str]]:
    """Number → what the ledger says of the version."""
    states = dict.fromkeys((number for number, _ in now.earlier), "former champion")
    states |= dict.fromkeys((one.number for one in now.withdrawn), "withdrawn")
    if now.champion is not None:
        states[now.champion] = "champion"
    return {number: {STATE: state} for number, state in states.items()}
