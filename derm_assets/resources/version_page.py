"""What a reviewer sees of a registered version in MLflow, and what makes its bundle a model that MLflow can run.

    write_flavour(task, bundle, folder)          MLmodel: signature and loader, beside the bundle's own files
    model_id = log_model(client, page)           a LoggedModel with its metrics: models compare side by side
    describe(client, page, number)               the card as description; tags to search by
    show_states(client, task, states)            champion, withdrawn, released, … as tags

Nothing here decides anything. Ledger and release file say who is champion and what is served; the tags repeat it.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from derm_assets.resources import loaded_by_mlflow
from derm_assets.resources.loaded_by_mlflow import Column, columns_answered, columns_asked
from derm_ml.bundles.bundle import Bundle
from derm_ml.escape import visible
from derm_ml.promotion.contract import Registered
from derm_ml.recipe import leaves
from derm_ml.task import Task

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation

Tags = Mapping[str, str]
FLAVOUR = "MLmodel"  # MLflow's name for the file
STATE, RELEASE, BENTO = "state", "release", "bento"  # tags of a version
_OWN = ("model_version", "dataset_md5", "git_commit", STATE, RELEASE, BENTO)
LONGEST = 5000  # characters of a tag or parameter that every store takes
_MORE = "\n\n… The whole card is in the folder `cards-…` among the files of its run."


@dataclass(frozen=True)
class Page:
    """What is shown of one version: its model, what was measured, and the run that trained it.

    `links` are tags whose values are addresses or paths: the report, the Dagster run.
    """

    task: Task
    model: Bundle
    evaluation: Evaluation
    run_id: str
    experiment: str
    description: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def tags(self) -> dict[str, str]:
        """The primary metric with its interval and n, and where to read more."""
        name = self.task.primary_metric
        metric = self.evaluation.metrics.get(name)
        said = {"primary_metric": name, "primary": "not measured" if metric is None else str(metric)}
        if metric is not None and metric.value is not None:
            values = {"value": metric.value, "low": metric.low, "high": metric.high, "n": metric.n}
            said |= {f"primary_{part}": f"{value:.6g}" for part, value in values.items() if value is not None}
        return {tag: visible(value)[:LONGEST] for tag, value in {**said, **self.links}.items() if value}


def write_flavour(task: Task, bundle: Bundle, folder: Path) -> Path:
    """Write `MLmodel` into `folder`; the path. It names a loader of ours, the columns of question and answer, and no
    environment: a model is run where this platform is installed (`--env-manager local`).
    """
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    def schema(columns: list[Column]) -> Schema:
        return Schema([ColSpec(kind, name, required=must) for name, kind, must in columns])

    signature = ModelSignature(schema(columns_asked(task, bundle.card)), schema(columns_answered(bundle.card)))
    model = Model(signature=signature, model_uuid=bundle.version, utc_time_created="", metadata={"task": task.name})
    here = platform.python_version()  # MLflow warns of a model that does not say it
    model.add_flavor("python_function", loader_module=loaded_by_mlflow.__name__, python_version=here)
    path = folder / FLAVOUR
    model.save(str(path))
    return path


def log_model(client: MlflowClient, page: Page) -> str:
    """A LoggedModel of the version with the metrics of its evaluation on their dataset; its id."""
    from mlflow.entities import LoggedModelOutput, Metric

    card, measured = page.model.card, page.evaluation
    logged = client.create_logged_model(
        page.experiment,
        name=f"{page.task.name}-{page.model.version}",
        source_run_id=page.run_id,
        tags=page.tags | {"model_version": page.model.version},
        params={"recipe": card.recipe_name, **{n: visible(str(v))[:LONGEST] for n, v in leaves(card.recipe).items()}},
        model_type=card.head,
    )
    now = int(time.time() * 1000)
    on = {"dataset_name": page.task.name, "dataset_digest": _digest(measured.dataset_md5)}
    client.log_batch(
        page.run_id,
        metrics=[
            Metric(f"{measured.split}_{name}", value, now, 0, model_id=logged.model_id, **on)
            for name, value in measured.numbers.items()
        ],
    )
    client.log_outputs(page.run_id, [LoggedModelOutput(logged.model_id, 0)])
    client.finalize_logged_model(logged.model_id, "READY")
    return logged.model_id


def log_dataset(client: MlflowClient, run_id: str, dataset: Dataset) -> None:
    """The dataset of a run as MLflow's input: name, md5, sizes, licences; no image and no name of a file."""
    from mlflow.entities import Dataset as Input
    from mlflow.entities import DatasetInput, InputTag

    profile = {"images": dataset.info["sizes"], "labels": dataset.info["counts"], "licences": dataset.licences}
    source = {"dvc_md5": dataset.md5, "split_hashes": dataset.split_hashes}
    entry = Input(dataset.task, _digest(dataset.md5), "dvc", json.dumps(source), profile=json.dumps(profile))
    client.log_inputs(run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "training")])])


def describe(client: MlflowClient, page: Page, number: str) -> None:
    """Let a version of the registry say what a reviewer decides on."""
    own = client.tracking_uri.startswith("sqlite")  # takes any length; a column of Postgres or MySQL refuses more
    text = page.description if own else fitting(page.description)
    client.update_model_version(page.task.name, number, description=text)
    for tag, value in page.tags.items():
        client.set_model_version_tag(page.task.name, number, tag, value)


def fitting(text: str) -> str:
    """A text that every store takes, cut at the end of a line where it is longer."""
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - len(_MORE)].rpartition("\n")[0] + _MORE


def show_states(
    client: MlflowClient,
    task: Task,
    states: Mapping[int, Tags],
    bentos: Mapping[str, Tags],
) -> None:
    """Write what ledger and release file say of each version into its tags; what is right already is left alone.

    `states`: number → tags; `bentos`: model version → tags. A version that neither names is a candidate, not released.
    """
    for version in client.search_model_versions(f"name = '{task.name}'"):
        found: Mapping[str, str] = version.tags
        own = {**states.get(int(version.version), {}), **bentos.get(found.get("model_version", ""), {})}
        for name, value in {STATE: "candidate", RELEASE: "not released", **own}.items():
            if found.get(name) != value:
                client.set_model_version_tag(task.name, version.version, name, visible(value)[:LONGEST])


def registered_versions(client: MlflowClient, task: Task) -> list[Registered]:
    """What the tags of all versions say, oldest first; each training attempt is a Dagster run of its own."""
    found = []
    for version in client.search_model_versions(f"name = '{task.name}'"):
        tags: Mapping[str, str] = version.tags
        attempts = client.get_run(str(version.run_id)).data.tags.get("dagster_run_ids", "")
        runs = dict.fromkeys(filter(None, [*attempts.split(","), tags.get("dagster_run_id", "")]))
        own = {name: tags.get(name, "") for name in _OWN}
        found.append(Registered(int(version.version), run=str(version.run_id), dagster_runs=tuple(runs), **own))
    return sorted(found, key=lambda one: one.number)


def _digest(md5: str) -> str:
    """MLflow takes 36 characters; an md5 with its `.dir` has 36."""
    return md5[:36]
