"""The registry: runs, metrics, registered versions and their aliases, in MLflow.

    registry.begin(task, folder, recipe, tags) → run     created, or taken up again after a crash
    registry.log_epoch(run, report)                      one step of every curve
    registry.register(task, bundle, evaluation) → ModelVersion, alias `challenger`
    registry.point(task, alias, number)                  what promotion (promotions.py) moves

A bundle is stored as the files it is, beside an `MLmodel` by which MLflow itself can run it (version_page.py); there is
no pickle, and whoever fetches one verifies its sha256.
sqlite below `DERM_HOME` by default; `MLFLOW_TRACKING_URI` names a server or a Postgres database instead. A server
decides itself where files lie; beside a database `DERM_ARTIFACTS` does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from derm_assets.resources.datasets import evaluation_of
from derm_assets.resources.ledger_anchor import HeadTag
from derm_assets.resources.mlflow_client import RegistryError
from derm_assets.resources.mlflow_runs import MlflowRuns, as_tags
from derm_assets.resources.stored_files import StoredFiles, bundle_folder, evaluation_folder, has_sha256, hexadecimal
from derm_assets.resources.version_page import (
    Page,
    Tags,
    describe,
    log_dataset,
    log_model,
    registered_versions,
    show_states,
    write_flavour,
)
from derm_ml.bundles.bundle import CARD, Bundle
from derm_ml.escape import markdown
from derm_ml.evaluation.record import SUMMARY, Evaluation
from derm_ml.files import sha256
from derm_ml.model_folder import model_folders
from derm_ml.promotion import CHALLENGER, SPLIT, ModelVersion
from derm_ml.promotion.contract import Registered
from derm_ml.task import Task

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as StoredVersion

    from derm_assets.resources.promotions import Promotions
    from derm_ml.data.dataset import Dataset

__all__ = ["Beside", "ModelRegistry", "RegistryError", "open_registry"]


@dataclass(frozen=True, slots=True)
class Beside:
    """What a version is shown with: its cards (a folder, and one as Markdown), its dataset, links as tags."""

    cards: Path | None = None
    description: str = ""
    dataset: Dataset | None = None
    links: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry(MlflowRuns):
    """Runs (`MlflowRuns`), and the versions that are registered of their models."""

    def register(
        self,
        task: Task,
        bundle: Path,
        evaluation: Path,
        tags: Mapping[str, str] | None = None,
        beside: Beside | None = None,
    ) -> ModelVersion:
        """Store bundle and evaluation, verify what was stored, make a version of them, then point `challenger` at it.

        In this order, so that no alias ever names missing bytes. The same bundle with the same evaluation is the same
        version, so registering again after a crash converges; a newer evaluation makes a newer version. `beside` is
        what a reviewer reads of it.
        """
        model = Bundle.open(bundle)
        model.require_whole()
        measured, beside = Evaluation.load(evaluation), beside or Beside()
        run = self.run_of(task, bundle)
        evaluation_sha256 = sha256(evaluation / SUMMARY)
        identity = {"model_version": model.version, "evaluation_sha256": evaluation_sha256}
        page = Page(task, model, measured, run.id, run.experiment, beside.description, beside.links)
        stored = self._find(task, identity) or self._store(page, evaluation, identity | dict(tags or {}), beside)
        describe(self.client, page, str(stored.version))  # again too: a crash may have come between
        version = self._files.readable(stored)
        self.point(task, CHALLENGER, version.number)
        return version

    def registered(self, task: Task) -> list[Registered]:
        """All versions by their tags, oldest first."""
        return registered_versions(self.client, task) if self.begun else []

    def alias(self, task: Task, alias: str) -> int | None:
        """The number of the version an alias points to, None if there is none."""
        stored = self._by_alias(task, alias)
        return None if stored is None else int(stored.version)

    def read(self, task: Task, number: int) -> ModelVersion:
        """A version, its files on this machine. Raises `RegistryError` if there is none, or if they are others."""
        if not self.begun:
            raise RegistryError(f"the registry has no version {number} of {task.name}: nothing was ever registered")
        from mlflow.exceptions import MlflowException

        try:
            return self._files.readable(self.client.get_model_version(task.name, str(number)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(f"the registry has no version {number} of {task.name}") from None

    def registered_at(self, task: Task, number: int) -> datetime:
        """When a version was registered, in UTC: the end of its training, to a few minutes."""
        stored = self.client.get_model_version(task.name, str(number))
        return datetime.fromtimestamp(int(stored.creation_timestamp) / 1000, UTC)

    def version(self, task: Task, alias: str) -> ModelVersion | None:
        """The version an alias points to, its files on this machine; None if there is no such alias."""
        stored = self._by_alias(task, alias)
        return None if stored is None else self._files.readable(stored)

    def point(self, task: Task, alias: str, number: int | None) -> None:
        """Let an alias point to a version; None removes it."""
        if number is not None:
            self.client.set_registered_model_alias(task.name, alias, str(number))
        elif self.alias(task, alias) is not None:
            self.client.delete_registered_model_alias(task.name, alias)

    def restore(self, task: Task, number: int, model_version: str) -> str:
        """Put a version's damaged files back from the model folder they were registered from."""
        stored = self.client.get_model_version(task.name, str(number))
        evaluation_sha256 = hexadecimal(stored, "evaluation_sha256", 64)
        for model in model_folders(self.places.models(task)):
            evaluation = evaluation_of(model.bundle)
            asked = (model.bundle / CARD, model_version, 12), (evaluation / SUMMARY, evaluation_sha256, 64)
            if not all(has_sha256(*file) for file in asked):
                continue
            Bundle.open(model.bundle)  # verified before it overwrites anything
            Evaluation.load(evaluation)
            for copy, folder in ((model.bundle, bundle_folder(stored)), (evaluation, evaluation_folder(stored))):
                self._files.put_back(str(stored.run_id), copy, folder)
            return f"the files of version {number} were put back from {model.path}"
        raise RegistryError(f"no copy of model {model_version} with its evaluation lies below {self.places.out}")

    def link(self, task: Task, version: ModelVersion) -> str:
        """Where a person looks at a registered version."""
        return f"{self._ui}/#/models/{task.name}/versions/{version.number}"

    def show(self, task: Task, states: Mapping[int, Tags], bentos: Mapping[str, Tags]) -> None:
        """Repeat in the tags of the versions what ledger (by number) and release file (by model version) say."""
        if self.begun:
            show_states(self.client, task, states, bentos)

    def anchor(self, task: Task) -> HeadTag:
        """Where the hash of the last line of the task's promotion ledger is kept: outside the ledger's file."""
        return HeadTag(self, task.name)

    def _by_alias(self, task: Task, alias: str) -> StoredVersion | None:
        if not self.begun:
            return None
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(task.name, alias)
        except MlflowException as error:
            # an unknown model and an unknown alias are answered with different codes, both meaning "none yet"
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def _find(self, task: Task, identity: Mapping[str, str]) -> StoredVersion | None:
        found = self.client.search_model_versions(f"name = '{task.name}'")
        same = [v for v in found if all(v.tags.get(name) == value for name, value in identity.items())]
        return min(same, key=lambda v: int(v.version), default=None)

    def _store(self, page: Page, evaluation: Path, tags: Mapping[str, str], beside: Beside) -> StoredVersion:
        from mlflow.exceptions import MlflowException

        task, model, card = page.task, page.model, page.model.card
        folder, measured = f"bundle-{model.version}", f"evaluation-{tags['evaluation_sha256'][:12]}"
        self.client.log_artifacts(page.run_id, str(model.path), folder)
        with tempfile.TemporaryDirectory() as made:
            self.client.log_artifact(page.run_id, str(write_flavour(task, model, Path(made))), folder)
        self.client.log_artifacts(page.run_id, str(evaluation), measured)
        if beside.cards is not None:
            self.client.log_artifacts(page.run_id, str(beside.cards), f"cards-{tags['evaluation_sha256'][:12]}")
        if Bundle.open(self._files.local(page.run_id, folder)).version != model.version:
            raise RegistryError(f"the bundle in run {page.run_id} is not the one that was sent; register it again")
        if beside.dataset is not None:
            log_dataset(self.client, page.run_id, beside.dataset)
        try:
            self.client.create_registered_model(task.name, description=markdown(f"{task.title}. {card.research_use}"))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        chain = {
            "dataset_md5": card.dataset_md5,
            "git_commit": card.git_commit,
            "test_split_hash": card.split_hashes[SPLIT],
            "recipe": card.recipe_name,
            "bundle": folder,
            "evaluation": measured,
        }
        source = f"{self.client.get_run(page.run_id).info.artifact_uri}/{folder}"
        # a server ties a version to a logged model only where that holds the files itself: ours lie in the run, once
        chain["logged_model"] = log_model(self.client, page)
        return self.client.create_model_version(task.name, source, page.run_id, tags=as_tags(chain | dict(tags)))

    @property
    def _files(self) -> StoredFiles:
        return StoredFiles(self.client, self.places, self._where, self.is_server)


def open_registry() -> Promotions:
    """What the command line asks of the registry the environment names; the entry point `derm.registry`."""
    from derm_assets.resources.promotions import Promotions  # it stands above: whoever logs an epoch does not need it

    return Promotions(ModelRegistry.from_environment())
