"""The only place that knows MLflow: runs, metrics, registered versions and their aliases.

    registry.begin(task, folder, recipe, tags) → run     created, or taken up again after a crash
    registry.log_epoch(run, report)                      one step of every curve
    registry.register(task, bundle, evaluation) → ModelVersion, alias `challenger`
    registry.promote(task, bundle) → Decision            what `derm promote` calls

A bundle is stored as the files it is (no pickle, no MLflow flavour); whoever fetches one verifies its sha256.
sqlite below `DERM_HOME` by default; `MLFLOW_TRACKING_URI` names a server or a Postgres database instead.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import dagster as dg
from pydantic import PrivateAttr

from derm_assets.resources.places import Places
from derm_ml import DermError
from derm_ml.bundle import Bundle
from derm_ml.evaluation import Evaluation
from derm_ml.files import replacing_file, replacing_folder, sha256
from derm_ml.ledger import Ledger
from derm_ml.progress import EpochReport
from derm_ml.promotion import (
    CHALLENGER,
    CHAMPION,
    SPLIT,
    Decision,
    ModelVersion,
    PromotionError,
    evidence_of,
    promote,
    rollback,
    weigh,
)
from derm_ml.task import Recipe, Task

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as StoredVersion

    from derm_ml.dataset import Dataset

RUN_FILE = "mlflow_run"  # beside the checkpoint: a resumed fit goes on in the run it began
_LONGEST_PARAM = 6000  # MLflow refuses longer ones


class RegistryError(DermError, RuntimeError):
    """The registry does not hold what it was asked for."""


@dataclass(frozen=True, slots=True)
class Run:
    """One MLflow run: its id, and where a person looks at it."""

    id: str
    experiment: str
    link: str


class ModelRegistry(dg.ConfigurableResource):
    """MLflow by explicit run ids: no active run, no global state, so every Dagster step may be its own process."""

    places: Places
    tracking_uri: str = ""  # empty: sqlite below DERM_HOME
    ui: str = "http://127.0.0.1:5000"  # where `mlflow ui` shows a local database
    _opened: Any = PrivateAttr(default=None)

    # ------------------------------------------------------------------ runs

    def begin(self, task: Task, folder: Path, recipe: Recipe, tags: Mapping[str, str]) -> Run:
        """The run of the model in `folder`: a new one, or the one an earlier attempt began there."""
        known = folder / RUN_FILE
        experiment = self._experiment(task)
        if known.exists():
            run_id = known.read_text(encoding="utf-8").strip()
            self.client.update_run(run_id, status="RUNNING")
        else:
            run_id = self.client.create_run(experiment, run_name=folder.name, tags=dict(tags)).info.run_id
            for name, value in {"recipe": recipe.name, **recipe.model_dump(mode="json")}.items():
                self.client.log_param(run_id, name, str(value)[:_LONGEST_PARAM])
            with replacing_file(known) as temporary:
                temporary.write_text(run_id + "\n", encoding="utf-8")
        known_tags = self.client.get_run(run_id).data.tags
        if "dagster_run_id" in tags:  # each attempt is a Dagster run of its own
            earlier = known_tags.get("dagster_run_ids", known_tags.get("dagster_run_id", "")).split(",")
            all_of_them = dict.fromkeys([*filter(None, earlier), tags["dagster_run_id"]])
            tags = {**tags, "dagster_run_ids": ",".join(all_of_them)}
        for name, value in tags.items():
            self.client.set_tag(run_id, name, value)
        return self._run(run_id, experiment)

    def close_killed(self, dagster_run_id: str) -> list[str]:
        """Close as `KILLED` what a Dagster run, whose process is gone, left open; the ids of the MLflow runs.

        One that a later Dagster run has taken up is left alone.
        """
        if not self.tracking_uri and not self._database.exists():
            return []  # nothing was ever trained: do not make a database for it
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        left_open = self.client.search_runs(
            experiments, f"tags.dagster_run_id = '{dagster_run_id}' and attributes.status = 'RUNNING'"
        )
        for run in left_open:
            self.client.set_terminated(run.info.run_id, status="KILLED")
        return [run.info.run_id for run in left_open]

    def run_of(self, task: Task, folder: Path) -> Run:
        """The run that trained the model in `folder`; one is made for a model trained without Dagster."""
        if not (folder / RUN_FILE).exists():
            card = Bundle.open(folder / "bundle").card
            recipe = task.recipe(card.recipe_name, **card.recipe)
            run = self.begin(task, folder, recipe, {"dataset_md5": card.dataset_md5})
            self.end(run, "FINISHED")
            return run
        return self._run((folder / RUN_FILE).read_text(encoding="utf-8").strip(), self._experiment(task))

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
        self, task: Task, bundle: Path, evaluation: Path, tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """Store bundle and evaluation, verify what was stored, make a version of them, then point `challenger` at it.

        In this order, so that no alias ever names missing bytes. The same bundle with the same evaluation is the
        same version, so registering again after a crash converges; a newer evaluation makes a newer version.
        """
        model = Bundle.open(bundle)
        Evaluation.load(evaluation)
        run = self.run_of(task, bundle.parent)
        evaluation_sha256 = sha256(evaluation / "evaluation.json")
        identity = {"model_version": model.version, "evaluation_sha256": evaluation_sha256}
        stored = self._find(task, identity) or self._store(task, model, evaluation, run, identity | dict(tags or {}))
        version = self._readable(stored)
        self.point(task, CHALLENGER, version.number)
        return version

    def version(self, task: Task, alias: str) -> ModelVersion | None:
        """The version an alias points to, its files on this machine; None if there is no such alias."""
        from mlflow.exceptions import MlflowException

        try:
            return self._readable(self.client.get_model_version_by_alias(task.name, alias))
        except MlflowException as error:
            # an unknown model and an unknown alias are answered with different codes, both meaning "none yet"
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def point(self, task: Task, alias: str, number: int) -> None:
        """Let an alias point to a version."""
        self.client.set_registered_model_alias(task.name, alias, str(number))

    def link(self, task: Task, version: ModelVersion) -> str:
        """Where a person looks at a registered version."""
        return f"{self._ui}/#/models/{task.name}/versions/{version.number}"

    # ------------------------------------------- what the command line calls

    def champion(self, task: Task) -> Path:
        """The champion's bundle. Raises `RegistryError` if there is none."""
        version = self.version(task, CHAMPION)
        if version is None:
            raise RegistryError(f"{task.name} has no champion: train a model, then `derm promote {task.name} MODEL`")
        return version.bundle

    def promote(self, task: Task, bundle: Path, *, dry_run: bool = False) -> Decision:
        """Decide whether a bundle becomes the champion; unless `dry_run`, register it and carry the decision out."""
        evaluation = evaluation_of(bundle)
        if dry_run:
            evidence = evidence_of(task, ModelVersion(0, bundle, evaluation), self)
            return weigh(task, evidence, self.version(task, CHAMPION), self)
        return self.promote_version(task, self.register(task, bundle, evaluation))

    def promote_version(self, task: Task, candidate: ModelVersion) -> Decision:
        """Decide on a registered version, move the aliases, write the ledger."""
        return promote(task, candidate, self, Ledger(self.places.ledger(task)), self)

    def rollback(self, task: Task) -> str:
        """Make the previous champion the champion again."""
        return rollback(task, self, Ledger(self.places.ledger(task)))

    # ------------------------------------------------ what a promotion asks

    def present(self, task: Task) -> str:
        """The md5 of the prepared dataset; empty where nothing is prepared."""
        from derm_ml.dataset import Dataset

        folder = self.places.prepared(task)
        return Dataset.open(folder).md5 if folder.exists() else ""

    def measure(self, task: Task, bundle: Path, dataset_md5: str) -> Path:
        """A model's evaluation on the frozen test split of that dataset: made once, then kept.

        Raises `PromotionError` if test images were in the training or validation split of the model's own dataset.
        """
        model = Bundle.open(bundle)
        folder = Path(self.places.out) / task.name / "again" / f"{model.version}-{dataset_md5[:12]}"
        if not folder.exists():
            dataset, own = self._dataset(task, dataset_md5), self._dataset(task, model.card.dataset_md5)
            if dataset is None:
                raise PromotionError(f"dataset {dataset_md5} is not on this machine: prepare it again")
            learned = own.learned_from(dataset, SPLIT) if own else []
            if learned:
                raise PromotionError(
                    f"{len(learned)} of its {SPLIT} images, such as {learned[0]}, were in the training or validation "
                    f"split of model {model.version}: prepare the data with the splits they had"
                )
            task.evaluate(task.load(bundle), dataset, SPLIT).save(folder)
        return folder

    # ---------------------------------------------------------------- inside

    def _dataset(self, task: Task, md5: str) -> Dataset | None:
        """The dataset of that md5: the frozen version, else the prepared folder while it is still that one."""
        from derm_ml.dataset import Dataset

        if self.places.version(task, md5).exists():
            return Dataset.open(self.places.version(task, md5))
        return Dataset.open(self.places.prepared(task)) if self.present(task) == md5 else None

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the first touch of a fresh sqlite file runs its migrations (10 s and more)."""
        if self._opened is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it fills a log with bars
            from mlflow import MlflowClient

            self._database.parent.mkdir(parents=True, exist_ok=True)
            self._opened = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._opened

    @property
    def _uri(self) -> str:
        return self.tracking_uri or f"sqlite:///{self._database}"

    @property
    def _database(self) -> Path:
        """Where MLflow's own database lies, if no other one is named."""
        return Path(self.places.home).resolve() / "mlflow" / "mlflow.db"

    @property
    def _ui(self) -> str:
        return self._uri.rstrip("/") if self._uri.startswith("http") else self.ui

    def _experiment(self, task: Task) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(task.name)
        if found:
            return found.experiment_id
        # a server decides itself where artifacts lie; a database of our own keeps them beside itself
        beside = (Path(self.places.home).resolve() / "mlflow" / "artifacts" / task.name).as_uri()
        try:
            return self.client.create_experiment(task.name, None if self._uri.startswith("http") else beside)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was first
                raise
            return self._experiment(task)

    def _run(self, run_id: str, experiment: str) -> Run:
        return Run(run_id, experiment, f"{self._ui}/#/experiments/{experiment}/runs/{run_id}")

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

    def _store(self, task: Task, model: Bundle, evaluation: Path, run: Run, tags: Mapping[str, str]) -> StoredVersion:
        from mlflow.exceptions import MlflowException

        card = model.card
        folder, measured = f"bundle-{model.version}", f"evaluation-{tags['evaluation_sha256'][:12]}"
        self.client.log_artifacts(run.id, str(model.path), folder)
        self.client.log_artifacts(run.id, str(evaluation), measured)
        if Bundle.open(self._local(run.id, folder)).version != model.version:
            raise RegistryError(f"the bundle stored in run {run.id} is not the one that was sent; register it again")
        try:
            self.client.create_registered_model(task.name, description=f"{task.title}. {card.note}")
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
        source = f"{self.client.get_run(run.id).info.artifact_uri}/{folder}"
        return self.client.create_model_version(task.name, source, run.id, tags=chain | dict(tags))

    def _readable(self, stored: StoredVersion) -> ModelVersion:
        assert stored.run_id is not None
        bundle, evaluation = (self._local(stored.run_id, stored.tags[part]) for part in ("bundle", "evaluation"))
        if sha256(evaluation / "evaluation.json") != stored.tags["evaluation_sha256"]:
            raise RegistryError(f"the evaluation of version {stored.version} was changed after it was registered")
        return ModelVersion(int(stored.version), bundle, evaluation)

    def _local(self, run_id: str, folder: str) -> Path:
        """A stored folder on this machine: where it lies, or fetched once (its name says its content)."""
        place = urlparse(self.client.get_run(run_id).info.artifact_uri)
        if place.scheme == "file":
            stored = Path(url2pathname(str(place.path))) / folder
            if not stored.is_dir():
                raise RegistryError(f"{stored} is gone: the registry names bytes that do not exist any more")
            return stored
        fetched = Path(self.places.home) / "fetched" / run_id / folder
        if not fetched.exists():
            with replacing_folder(fetched) as temporary:
                self.client.download_artifacts(run_id, folder, str(temporary))
                for item in (temporary / folder).iterdir():
                    item.rename(temporary / item.name)
                (temporary / folder).rmdir()
        return fetched


def evaluation_of(bundle: Path) -> Path:
    """Where `derm evaluate` and the asset `evaluation` write: beside the bundle."""
    return bundle.parent / f"evaluation_{SPLIT}"


def open_registry() -> ModelRegistry:
    """The registry the environment names; the entry point `derm.registry` of the command line."""
    return ModelRegistry(places=Places.from_environment(), tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", ""))
