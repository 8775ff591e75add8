"""The only place that knows MLflow: runs, metrics, registered versions and their aliases.

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

import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import dagster as dg
from pydantic import PrivateAttr

from derm_assets.resources.datasets import evaluation_of
from derm_assets.resources.ledger_anchor import HeadTag
from derm_assets.resources.mlflow_client import RegistryError, reachable_client
from derm_assets.resources.places import Places
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
from derm_ml.addresses import database_url
from derm_ml.bundles.bundle import CARD, Bundle
from derm_ml.escape import markdown, visible
from derm_ml.evaluation.record import SUMMARY, Evaluation
from derm_ml.files import replacing_file, replacing_folder, sha256
from derm_ml.machine import writing
from derm_ml.model_folder import ModelFolder, model_folders
from derm_ml.places import ARTIFACTS
from derm_ml.progress import EpochReport
from derm_ml.promotion import CHALLENGER, SPLIT, ModelVersion
from derm_ml.promotion.contract import Registered
from derm_ml.recipe import Recipe, leaves
from derm_ml.registry import get_task
from derm_ml.task import Task

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as StoredVersion

    from derm_assets.resources.promotions import Promotions
    from derm_ml.data.dataset import Dataset


_LONGEST_PARAM = 6000  # MLflow refuses longer ones


@dataclass(frozen=True, slots=True)
class Run:
    """One MLflow run: its id, where a person looks at it, and what they should know of how it was found."""

    id: str
    experiment: str
    link: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a version is shown with: its cards (a folder, and one as Markdown), its dataset, links as tags."""

    cards: Path | None = None
    description: str = ""
    dataset: Dataset | None = None
    links: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry(dg.ConfigurableResource):
    """MLflow by explicit run ids: no active run, no global state, so every Dagster step may be its own process."""

    places: Places
    tracking_uri: str = ""  # empty: sqlite below DERM_HOME
    artifacts: str = ""  # where files lie beside a database: `s3://bucket/folder`; empty: below DERM_HOME
    ui: str = "http://127.0.0.1:5000"  # where `mlflow ui` shows a local database
    _opened: Any = PrivateAttr(default=None)

    @classmethod
    def from_environment(cls) -> ModelRegistry:
        """The registry the environment names."""
        uri = database_url(os.environ.get("MLFLOW_TRACKING_URI", "").strip())
        return cls(places=Places.from_environment(), tracking_uri=uri, artifacts=os.environ.get(ARTIFACTS, "").strip())

    # ------------------------------------------------------------------ runs

    def begin(self, task: Task, folder: Path, recipe: Recipe, tags: Mapping[str, str]) -> Run:
        """The run of the model in `folder`: a new one, or the one an earlier attempt began there.

        A folder that came from another registry, or whose run was deleted, gets a run of this one; `note` and the tag
        `earlier_run` say so.
        """
        return self._begin(task, folder, {"recipe": recipe.name, **recipe.flat()}, tags)

    def _begin(self, task: Task, folder: Path, values: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        known = ModelFolder(folder).registry_run
        experiment = self._experiment(task)
        run_id, gone = self._known_run(known)
        if run_id:
            self.client.update_run(run_id, status="RUNNING")
        else:
            tags = {**tags, "earlier_run": gone} if gone else tags
            run_id = self.client.create_run(experiment, run_name=visible(folder.name), tags=_tags(tags)).info.run_id
            for name, value in values.items():
                self.client.log_param(run_id, name, visible(str(value))[:_LONGEST_PARAM])
            with replacing_file(known) as temporary:
                temporary.write_text(run_id + "\n", encoding="utf-8")
        known_tags = self.client.get_run(run_id).data.tags
        if "dagster_run_id" in tags:  # each attempt is a Dagster run of its own
            earlier = known_tags.get("dagster_run_ids", known_tags.get("dagster_run_id", "")).split(",")
            all_of_them = dict.fromkeys([*filter(None, earlier), tags["dagster_run_id"]])
            tags = {**tags, "dagster_run_ids": ",".join(all_of_them)}
        for name, value in _tags(tags).items():
            self.client.set_tag(run_id, name, value)
        note = f"{known} names MLflow run {gone}, which {self._where} does not hold: begun anew as run {run_id}"
        return self._run(run_id, experiment, note if gone else "")

    def close_killed(self, dagster_run_id: str) -> list[str]:
        """Close as `KILLED` what a Dagster run, whose process is gone, left open; the ids of the MLflow runs.

        One that a later Dagster run has taken up is left alone.
        """
        if not self.begun:
            return []  # nothing was ever trained
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        left_open = self.client.search_runs(
            experiments, f"tags.dagster_run_id = '{dagster_run_id}' and attributes.status = 'RUNNING'"
        )
        for run in left_open:
            self.client.set_terminated(run.info.run_id, status="KILLED")
        return [run.info.run_id for run in left_open]

    def run_of(self, task: Task, bundle: Path) -> Run:
        """The run that trained the model of a bundle.

        One is made for a model that was trained without Dagster, or whose run another registry holds.
        """
        run_id, _ = self._known_run(ModelFolder.holding(bundle).registry_run)
        if not run_id:
            card = Bundle.open(bundle).card
            values = {"recipe": card.recipe_name, **leaves(card.recipe)}  # as trained, by whichever version
            run = self._begin(task, ModelFolder.holding(bundle).path, values, {"dataset_md5": card.dataset_md5})
            self.end(run, "FINISHED")
            return run
        return self._run(run_id, self._experiment(task))

    def log_epoch(self, run: Run, report: EpochReport) -> None:
        """One step of the curves. An epoch logged twice (resume) keeps its step."""
        figures = {"train_loss": report.train_loss, "learning_rate": report.learning_rate}
        figures |= {"images_per_second": report.images_per_second, "epoch_seconds": report.seconds}
        self._log(run, figures | {f"validation_{name}": value for name, value in report.metrics.items()}, report.epoch)

    def log_evaluation(self, run: Run, numbers: Mapping[str, float], split: str) -> None:
        """The defined metrics of an evaluation as `<split>_<metric>`."""
        self._log(run, {f"{split}_{name}": value for name, value in numbers.items()}, 0)

    def end(self, run: Run, status: str) -> None:
        """Close a run: `FINISHED`, `FAILED`, or `KILLED` for one that somebody ended."""
        self.client.set_terminated(run.id, status=status)

    # -------------------------------------------------------------- versions

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
        version = self._readable(stored)
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
            return self._readable(self.client.get_model_version(task.name, str(number)))
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
        return None if stored is None else self._readable(stored)

    def point(self, task: Task, alias: str, number: int | None) -> None:
        """Let an alias point to a version; None removes it."""
        if number is not None:
            self.client.set_registered_model_alias(task.name, alias, str(number))
        elif self.alias(task, alias) is not None:
            self.client.delete_registered_model_alias(task.name, alias)

    def restore(self, task: Task, number: int, model_version: str) -> str:
        """Put a version's damaged files back from the model folder they were registered from."""
        stored = self.client.get_model_version(task.name, str(number))
        evaluation_sha256 = _hexadecimal(stored, "evaluation_sha256", 64)
        for model in model_folders(self.places.models(task)):
            evaluation = evaluation_of(model.bundle)
            if not _is(model.bundle / CARD, model_version, 12) or not _is(evaluation / SUMMARY, evaluation_sha256, 64):
                continue
            Bundle.open(model.bundle)  # verified before it overwrites anything
            Evaluation.load(evaluation)
            for copy, folder in ((model.bundle, _bundle_folder(stored)), (evaluation, _evaluation_folder(stored))):
                self._put_back(str(stored.run_id), copy, folder)
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

    # ---------------------------------------------------------------- inside

    @property
    def begun(self) -> bool:
        """Whether there is a registry to ask: a question makes no database of its own.

        Raises `RegistryError` where a file stands in place of one of its folders.
        """
        if self.tracking_uri:
            return True
        try:
            self._database.stat()
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            raise RegistryError(f"{self._database}: a part of this path is a file, not a folder") from None
        return True

    def reached(self) -> str:
        """Where the registry is, in a sentence. Raises `RegistryError` if it cannot be used; makes no database."""
        if not self.begun:
            return f"{self._where} is made by the first training or promotion"
        self.client.search_experiments(max_results=1)
        return f"{self._where} answers"

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

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the first touch of a fresh sqlite file runs its migrations (10 s and more)."""
        if self._opened is None:
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it fills a log with bars
            # a server that is down is said so after seconds, not after the four minutes of MLflow's own seven tries
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
            # it logs the traceback of what it raises as well
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            folder = self._database.parent
            with writing(folder, making=True):
                folder.mkdir(parents=True, exist_ok=True)
            self._opened = reachable_client(self.uri, self._where)
        return self._opened

    @property
    def _where(self) -> str:
        """The registry in words: its file or its address, without the password that may stand in it."""
        return re.sub(r"//[^/@]*@", "//", self.uri).removeprefix("sqlite:///")

    def _known_run(self, file: Path) -> tuple[str, str]:
        """The run a model folder's file names if this registry holds it, else the name of the run it does not hold."""
        from mlflow.exceptions import MlflowException

        named = file.read_text(encoding="utf-8", errors="replace").strip() if file.exists() else ""
        if not named:
            return "", ""
        try:
            active = self.client.get_run(named).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            active = False
        return (named, "") if active else ("", named)

    @property
    def uri(self) -> str:
        """The registry's address as MLflow takes it; a password may stand in it."""
        return self.tracking_uri or f"sqlite:///{self._database}"

    @property
    def is_server(self) -> bool:
        """Whether the registry is an MLflow server rather than a database this program opens itself."""
        return self.uri.startswith("http")

    @property
    def _database(self) -> Path:
        """Where MLflow's own database lies, if no other one is named."""
        return self.places.here.registry.resolve() / "mlflow.db"

    @property
    def _ui(self) -> str:
        return self.uri.rstrip("/") if self.is_server else self.ui

    def _experiment(self, task: Task) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(task.name)
        if found:
            return found.experiment_id
        root = self.artifacts.rstrip("/") or (self.places.here.registry.resolve() / "artifacts").as_uri()
        try:  # a server decides itself where artifacts lie
            return self.client.create_experiment(task.name, None if self.is_server else f"{root}/{task.name}")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was first
                raise
            return self._experiment(task)

    def _run(self, run_id: str, experiment: str, note: str = "") -> Run:
        return Run(run_id, experiment, f"{self._ui}/#/experiments/{experiment}/runs/{run_id}", note)

    def _log(self, run: Run, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(
            run.id, metrics=[Metric(name, value, now, step) for name, value in figures.items() if math.isfinite(value)]
        )

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
        if Bundle.open(self._local(page.run_id, folder)).version != model.version:
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
        return self.client.create_model_version(task.name, source, page.run_id, tags=_tags(chain | dict(tags)))

    def _readable(self, stored: StoredVersion) -> ModelVersion:
        """A stored version with the bytes its tags name. Tags are no paths: the folders follow from the hashes."""
        model_version = _hexadecimal(stored, "model_version", 12)
        evaluation_sha256 = _hexadecimal(stored, "evaluation_sha256", 64)
        run_id = _hexadecimal(stored, "run_id", 32, str(stored.run_id))
        for tag, name in (("bundle", _bundle_folder(stored)), ("evaluation", _evaluation_folder(stored))):
            if stored.tags.get(tag, name) != name:
                raise RegistryError(
                    f"the tag `{tag}` of version {stored.version} says '{stored.tags[tag]}', its other tags {name}: "
                    "somebody changed it"
                )
        bundle, evaluation = (self._local(run_id, n) for n in (_bundle_folder(stored), _evaluation_folder(stored)))
        found = Bundle.open(bundle).version
        if found != model_version:
            raise RegistryError(f"{bundle} holds model {found}, version {stored.version} is model {model_version}")
        if not _is(evaluation / SUMMARY, evaluation_sha256, 64):
            raise RegistryError(f"the evaluation of version {stored.version} was changed after it was registered")
        return ModelVersion(int(stored.version), bundle, evaluation)

    def _local(self, run_id: str, folder: str) -> Path:
        """A stored folder on this machine: where it lies, or fetched once (its name says its content)."""
        stored = self._stored_folder(run_id, folder)
        if stored is not None:
            if not stored.is_dir():
                raise RegistryError(
                    f"{stored} is not on this machine: its bytes are gone, or were registered on another one, which "
                    f"needs an MLflow server or {ARTIFACTS}=s3://… to share them"
                )
            return stored
        fetched = self.places.here.fetched(run_id) / folder
        if not fetched.exists():
            with replacing_folder(fetched) as temporary:
                self.client.download_artifacts(run_id, folder, str(temporary))
                for item in (temporary / folder).iterdir():
                    item.rename(temporary / item.name)
                (temporary / folder).rmdir()
        return fetched

    def _stored_folder(self, run_id: str, folder: str) -> Path | None:
        """Where a folder of a run lies on this machine, below the run's own artifacts; None if a server keeps it."""
        place = urlparse(self.client.get_run(run_id).info.artifact_uri)
        if place.scheme == "mlflow-artifacts" and not self.is_server:
            raise RegistryError(
                f"the files of run {run_id} were stored through an MLflow server, and {self._where} is its database "
                "alone: let MLFLOW_TRACKING_URI name the server"
            )
        if place.scheme != "file":
            return None
        root = Path(url2pathname(str(place.path))).resolve()
        stored = root / folder
        if stored.exists() and stored.resolve() != stored:
            raise RegistryError(f"{stored} is a link to {stored.resolve()}, outside the artifacts of its run")
        return stored

    def _put_back(self, run_id: str, copy: Path, folder: str) -> None:
        """Replace a stored folder by a verified copy: in place, or fetched anew from the server it is sent to again."""
        stored = self._stored_folder(run_id, folder)
        if stored is None:
            self.client.log_artifacts(run_id, str(copy), folder)
            stored = self.places.here.fetched(run_id) / folder
        with replacing_folder(stored) as temporary:
            shutil.copytree(copy, temporary, dirs_exist_ok=True)
            if folder.startswith("bundle-"):
                opened = Bundle.open(copy)
                write_flavour(get_task(opened.card.task), opened, temporary)


def _hexadecimal(stored: StoredVersion, name: str, digits: int, value: str | None = None) -> str:
    """A tag (or another value) of a stored version that must be so many hexadecimal digits."""
    found = stored.tags.get(name, "") if value is None else value
    if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", found):
        raise RegistryError(
            f"version {stored.version} of {stored.name} has the {name} '{found}', which is not {digits} hexadecimal "
            "digits: it was not registered by this platform, or changed later"
        )
    return found


def _bundle_folder(stored: StoredVersion) -> str:
    return f"bundle-{_hexadecimal(stored, 'model_version', 12)}"


def _evaluation_folder(stored: StoredVersion) -> str:
    return f"evaluation-{_hexadecimal(stored, 'evaluation_sha256', 64)[:12]}"


def _is(path: Path, digest: str, digits: int) -> bool:
    """Whether a file has a sha256 that begins with so many digits."""
    return path.is_file() and sha256(path)[:digits] == digest


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What MLflow shows beside a run or a version: text. (A description it renders as Markdown.)"""
    return {name: visible(value) for name, value in tags.items()}


def open_registry() -> Promotions:
    """What the command line asks of the registry the environment names; the entry point `derm.registry`."""
    from derm_assets.resources.promotions import Promotions  # it stands above: whoever logs an epoch does not need it

    return Promotions(ModelRegistry.from_environment())
