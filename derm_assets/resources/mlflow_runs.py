"""Runs: what was trained, with which settings, and its curves.

registry.begin(task, folder, recipe, tags) → run     created, or taken up again after a crash
registry.log_epoch(run, report)                      one step of every curve
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derm_assets.resources.mlflow_connection import MlflowConnection
from derm_ml.bundles.bundle import Bundle
from derm_ml.escape import visible
from derm_ml.files import replacing_file
from derm_ml.model_folder import ModelFolder
from derm_ml.progress import EpochReport
from derm_ml.recipe import Recipe, leaves
from derm_ml.task import Task

_LONGEST_PARAM = 6000  # MLflow refuses longer ones


@dataclass(frozen=True, slots=True)
class Run:
    """One MLflow run: its id, where a person looks at it, and what they should know of how it was found."""

    id: str
    experiment: str
    link: str
    note: str = ""


class MlflowRuns(MlflowConnection):
    """The runs of a registry."""

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
            run_id = self.client.create_run(experiment, run_name=visible(folder.name), tags=as_tags(tags)).info.run_id
            for name, value in values.items():
                self.client.log_param(run_id, name, visible(str(value))[:_LONGEST_PARAM])
            with replacing_file(known) as temporary:
                temporary.write_text(run_id + "\n", encoding="utf-8")
        known_tags = self.client.get_run(run_id).data.tags
        if "dagster_run_id" in tags:  # each attempt is a Dagster run of its own
            earlier = known_tags.get("dagster_run_ids", known_tags.get("dagster_run_id", "")).split(",")
            all_of_them = dict.fromkeys([*filter(None, earlier), tags["dagster_run_id"]])
            tags = {**tags, "dagster_run_ids": ",".join(all_of_them)}
        for name, value in as_tags(tags).items():
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


def as_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What MLflow shows beside a run or a version: text. (A description it renders as Markdown.)"""
    return {name: visible(value) for name, value in tags.items()}
