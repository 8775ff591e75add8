"""What each step of the line does: call derm_ml, hand figures and numbers to Dagster and MLflow, name the result.

`assets.py` puts the steps in order. Every result says its `path` and its data version; the next step finds it
by them. What leads to a dataset stands in data_steps.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from derm_assets.automation_settings import STARTED_BY
from derm_assets.display import card, facts, numbers, picture, pictures, say, table, text
from derm_assets.lineage import Upstream, UpstreamError, found_again
from derm_assets.marks import split_marks
from derm_assets.reports import dagster_url, link
from derm_assets.resources.datasets import Datasets, evaluation_of
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.promotions import Promotions
from derm_assets.resources.trainer import Trainer
from derm_ml import DermError
from derm_ml.bundles.bundle import Bundle
from derm_ml.escape import visible
from derm_ml.evaluation.recent import recent_in_words, recent_metric
from derm_ml.evaluation.report import PAGE
from derm_ml.evaluation.verdicts import FAILED, UNKNOWN, Verdict
from derm_ml.jobs import Job
from derm_ml.metrics.glossary import metric_named
from derm_ml.model_folder import CARDS, ModelFolder
from derm_ml.progress import EpochReport
from derm_ml.promotion import CHALLENGER, SPLIT, ModelVersion
from derm_ml.promotion.decision import Decision
from derm_ml.promotion.ledger import Ledger
from derm_ml.promotion.looks import AUTOMATION, count_look
from derm_ml.promotion.report import measure_model
from derm_ml.recipe import Recipe
from derm_ml.records import RECENT
from derm_ml.task import Artifact, Task

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation

VERDICT = "would_be_promoted"  # metadata of a registered version; `promotion` beside it says why
COMPARED = 6  # other models beside the current one: more marks on a line are not told apart


def train(
    context: dg.AssetExecutionContext,
    task: Task,
    recipe: Recipe,
    data: Upstream,
    places: Places,
    trainer: Trainer,
    registry: ModelRegistry,
) -> dg.MaterializeResult:
    """Fit a model (or go on with one that was killed), telling Dagster and MLflow of every epoch."""
    bundle, shown = _fitted(context, task, recipe, data, places, trainer, registry)
    return dg.MaterializeResult(data_version=dg.DataVersion(bundle.version), metadata=shown)


def autoencode(
    context: dg.AssetExecutionContext,
    task: Task,
    recipe: Recipe,
    data: Upstream,
    places: Places,
    trainer: Trainer,
    registry: ModelRegistry,
) -> dg.MaterializeResult:
    """Fit an autoencoder and report what it reconstructs; the codes of all images lie beside its bundle."""
    from derm_ml.data.dataset import Dataset
    from derm_ml.embeddings.autoencoder import AutoencoderPredictor
    from derm_ml.evaluation.autoencoder import report_autoencoder, save_autoencoder_report

    bundle, shown = _fitted(context, task, recipe, data, places, trainer, registry)
    report = report_autoencoder(AutoencoderPredictor(bundle.path), Dataset.open(data.path), task.title)
    folder = save_autoencoder_report(report, ModelFolder.holding(bundle.path).report)
    shown |= {"report": link(places, folder / PAGE)}
    marks = split_marks(context.instance, context.asset_key, {"split": report.split_hash})
    shown |= {**numbers(report.numbers), **marks, **pictures(report.figures)}
    return dg.MaterializeResult(data_version=dg.DataVersion(bundle.version), metadata=shown)


def _fitted(
    context: dg.AssetExecutionContext,
    task: Task,
    recipe: Recipe,
    data: Upstream,
    places: Places,
    trainer: Trainer,
    registry: ModelRegistry,
) -> tuple[Bundle, dict[str, Any]]:
    """Train in the folder of that recipe and data, told to Dagster and MLflow; the bundle and what to show of it."""
    from derm_ml.data.checks import require_usable
    from derm_ml.data.dataset import Dataset
    from derm_ml.figures.charts import training_curves
    from derm_ml.training.teacher import with_teacher_version

    recipe = with_teacher_version(recipe, task.name)
    require_usable(task, Dataset.open(data.path), data.version)  # a check that was red stops later runs too
    model = ModelFolder.of(places.models(task), recipe, data.version)
    run = registry.begin(task, model.path, recipe, {"dagster_run_id": context.run_id, "dataset_md5": data.version})
    say(context, f"recipe {recipe.name}, {model.path}, MLflow {run.link}")
    if run.note:
        context.log.warning(visible(run.note))

    def on_epoch(report: EpochReport) -> None:
        registry.log_epoch(run, report)
        shown = {"train_loss": report.train_loss, "images_per_second": report.images_per_second, **report.metrics}
        context.log_event(
            dg.AssetObservation(
                context.asset_key,
                description=f"epoch {report.epoch} of {report.epochs}",
                metadata={"epoch": report.epoch, **numbers(shown)},
            )
        )

    status = "FAILED"
    try:
        bundle = trainer.fit(context, Job(task.name, recipe, data.path, data.version, model.path), on_epoch)
        status = "FINISHED"
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):  # somebody pressed "Terminate"
        status = "KILLED"
        raise
    finally:
        registry.end(run, status)
    opened = Bundle.open(bundle)
    marks = split_marks(
        context.instance, context.asset_key, {"validation_split": opened.card.split_hashes.get("validation", "")}
    )
    history = json.loads(model.history.read_text(encoding="utf-8"))
    return opened, {
        **found_again(places.here, bundle, model.of_training),
        "curves": picture(training_curves(history, opened.card.epochs)),
        "recipe": facts({"name": recipe.name, **recipe.model_dump(mode="json")}),
        "dataset_md5": data.version,
        "git_commit": opened.card.git_commit,
        "best_epoch": opened.card.epochs,
        "mlflow_run": dg.MetadataValue.url(run.link),
        **numbers({f"validation_{name}": value for name, value in opened.card.validation.items()}),
        **marks,
    }


def evaluate(
    context: dg.AssetExecutionContext, task: Task, model: Upstream, places: Places, registry: ModelRegistry
) -> dg.MaterializeResult:
    """Measure the model on the test split it was trained beside; write the report beside the bundle."""
    folder = ModelFolder.holding(model.path)
    data = _own_data(task, model, places)
    measured = measure_model(
        task,
        task.load(model.path),
        data,
        folder,
        champion=lambda: Promotions(registry).champion_on(task, data.md5),
    )
    report = evaluation_of(model.path)
    how = AUTOMATION if STARTED_BY in context.run.tags else "evaluation"
    count_look(Ledger.of(places.here, task.name), measured, Bundle.open(model.path).card, how)
    run = registry.run_of(task, model.path)
    if run.note:
        context.log.warning(visible(run.note))
    registry.log_evaluation(run, measured.numbers, SPLIT)
    say(context, f"{metric_named(task.primary_metric).title}: {measured.metrics[task.primary_metric]}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{measured.model_version}-{measured.split_hash}"),
        metadata={
            "verdict": text(_verdict(task, measured)),
            **found_again(places.here, report, [report.name]),
            "report": link(registry.places, report / PAGE),
            **numbers(measured.numbers),
            "n": measured.n,
            **_recent(context, task, measured, folder, registry.places),
            **pictures(measured.figures),
        },
    )


def _recent(
    context: dg.AssetExecutionContext, task: Task, measured: Evaluation, folder: ModelFolder, places: Places
) -> dict[str, Any]:
    """What was reached on recent patients, as numbers that are plotted, and which splits all these numbers are of."""
    hashes = {"split": measured.split_hash}
    metric = recent_metric(measured, task.primary_metric)
    if metric is None:
        return dict(split_marks(context.instance, context.asset_key, hashes))
    value, split_hash = metric
    ends = {"": value.value, "_low": value.low, "_high": value.high}
    return {
        "recent": text(recent_in_words(measured, task.primary_metric)),
        "recent_report": link(places, folder.evaluation(RECENT) / PAGE),
        **numbers({f"recent_{task.primary_metric}{end}": number for end, number in ends.items() if number is not None}),
        "recent_n": value.n,
        **split_marks(context.instance, context.asset_key, {**hashes, "recent_split": split_hash}),
    }


def _verdict(task: Task, measured: Evaluation) -> str:
    """The primary metric with its interval, then the checks of the model that fail or lack data, in one line."""
    primary = f"{metric_named(task.primary_metric).title} {measured.metrics[task.primary_metric]}"
    found = [Verdict.of(gate, gate.check(measured)) for gate in task.gates]
    named = {state: [v.check for v in found if v.verdict == state] for state in (FAILED, UNKNOWN)}
    checks = "; ".join(f"{state}: {', '.join(names)}" for state, names in named.items() if names)
    return f"{primary}; {checks or f'all {len(task.gates)} checks of the model passed'}"


def compare(
    context: dg.AssetExecutionContext, task: Task, named: list[str], evaluation: Upstream, places: Places
) -> dg.MaterializeResult:
    """The current model, as the reference, beside others measured on the same frozen split."""
    from derm_ml.evaluation.comparison import compare as compare_runs
    from derm_ml.evaluation.comparison import named_apart, others_of, read_run
    from derm_ml.evaluation.comparison_report import PAGE as COMPARISON
    from derm_ml.evaluation.comparison_report import difference_figure
    from derm_ml.promotion.report import save_compared

    current = read_run(evaluation.path)
    models = places.models(task)
    others = [read_run(Path(name)) for name in named] or others_of(
        current, models, task.primary_metric, COMPARED, partial(say, context, level=logging.WARNING)
    )
    folder = places.here.comparison(task.name)
    if not others:
        why = f"no other model in {models} was measured on test split {current.evaluation.split_hash}"
        say(context, why)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(evaluation.version), metadata={"compared": 0, "why": text(why)}
        )
    comparison = compare_runs(named_apart([current, *others]), task)
    save_compared(task, comparison, folder, places.here)
    return dg.MaterializeResult(
        data_version=dg.DataVersion("-".join(run.evaluation.model_version[:6] for run in comparison.runs)),
        metadata={
            "path": dg.MetadataValue.path(folder),
            "report": link(places, folder / COMPARISON),
            "differences": picture(difference_figure(comparison)),
            "differences_file": link(places, folder / "comparison.png"),
            "table_file": link(places, folder / "comparison.csv"),
            "table": table([row.plain() for row in comparison.rows]),
            "by_chance": comparison.by_chance,
            "compared": len(others),
            "n": comparison.n,
            **split_marks(context.instance, context.asset_key, {"split": comparison.split_hash}),
        },
    )


def _own_data(task: Task, model: Upstream, places: Places) -> Dataset:
    """The frozen dataset the model was trained with, whatever was delivered since: promotion looks at newer data."""
    from derm_ml.data.dataset import Dataset

    md5 = str(model.metadata["dataset_md5"])
    frozen = Datasets(places).frozen(task, md5)
    if not frozen.is_dir():
        raise UpstreamError(
            f"{frozen} is gone: the model was trained with dataset {md5} and is measured on no other; "
            f"materialise {task.name}/dataset and {task.name}/model again"
        )
    return Dataset.open(frozen)


def make_artifact(
    context: dg.AssetExecutionContext, task: Task, artifact: Artifact, model: Upstream, places: Places
) -> dg.MaterializeResult:
    """Something made from the model beside its evaluation; pictures are shown."""
    folder = ModelFolder.holding(model.path).artifact(artifact.name)
    folder.mkdir(exist_ok=True)
    data = _own_data(task, model, places)
    made = artifact.make(task.load(model.path), data, folder)
    shown = {name: path.read_bytes() for name, path in made.items() if path.suffix == ".png"}
    figures = json.loads(made["numbers"].read_text(encoding="utf-8")) if "numbers" in made else {}
    marks = split_marks(context.instance, context.asset_key, _splits(data)) if figures else {}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(model.version),
        metadata={
            **found_again(places.here, folder, [folder.name]),
            **{f"{name}_file": link(places, path) for name, path in made.items()},
            **numbers(figures),
            **marks,
            **pictures(shown),
        },
    )


def _splits(data: Dataset) -> dict[str, str]:
    """The splits that figures of a whole dataset are measured on, for `split_marks`."""
    return {f"{name}_split": value for name, value in data.split_hashes.items()}


def register(
    context: dg.AssetExecutionContext, task: Task, model: Upstream, evaluation: Upstream, registry: ModelRegistry
) -> dg.MaterializeResult:
    """Store bundle and evaluation in the registry as the challenger, and say what its promotion would decide."""
    promotions = Promotions(registry)
    report = _shown_at(evaluation.path / PAGE, registry)
    links = {"dagster_run": f"{dagster_url()}/runs/{context.run_id}", "report": report}
    version = promotions.register(task, model.path, evaluation.path, {"dagster_run_id": context.run_id}, links)
    cards = promotions.cards(task, model.path, evaluation.path)
    try:
        decision = promotions.preview(task, version.number)
        would = "would be granted" if decision.promote else "would be refused"
        outcome = text(f"{would}: {'; '.join(decision.reasons)}")
        said: dict[str, Any] = {VERDICT: decision.promote, "promotion": outcome, **_checks(decision)}
        said |= _beside_champion(promotions, task, version, _champion_now(promotions, task))
    except DermError as error:  # the version is there all the same, and its promotion will say it again
        said = {VERDICT: False, "promotion": text(f"cannot be decided: {error}")}
    say(context, f"promotion of version {version.number} {said['promotion'].value}")
    folder = ModelFolder.holding(model.path).artifact(CARDS)
    for shown in cards:
        name = shown.kind.replace(" ", "_")
        said |= {name: card(shown), f"{name}_page": link(registry.places, folder / f"{name}.html")}
    return _version_result(task, version, model.version, registry, said)


def _shown_at(page: Path, registry: ModelRegistry) -> str:
    """The address of a report where people open it; of one that is not shown there, its path."""
    value = str(link(registry.places, page).value)
    return f"{dagster_url()}{value}" if value.startswith("/reports/") else value


def promote(context: dg.AssetExecutionContext, task: Task, registry: ModelRegistry) -> dg.MaterializeResult:
    """Make the version somebody approved, else the challenger, the champion if the evidence, read again now, allows it;
    else fail with the reasons."""
    promotions = Promotions(registry)
    approved = promotions.standing(task).approved
    number = approved.number if approved else registry.alias(task, CHALLENGER)
    if number is None:
        raise UpstreamError(f"{task.name} has no challenger: materialise {task.name}/registered_model first")
    champion = _champion_now(promotions, task)
    decision = promotions.promote_version(task, number)
    for reason in decision.reasons:
        say(context, reason)
    reasons = "; ".join(decision.reasons)
    if not decision.promote:
        raise dg.Failure(visible(f"version {number} was refused: {reasons}"), allow_retries=False)
    candidate = registry.read(task, number)
    said = {"reasons": text(reasons), **_checks(decision), **({"approved_by": text(approved.by)} if approved else {})}
    said |= _beside_champion(promotions, task, candidate, champion)
    return _version_result(task, candidate, _bundle_version(candidate), registry, said)


def _champion_now(promotions: Promotions, task: Task) -> ModelVersion | None:
    """The champion; None where there is none, or where ledger and registry disagree, which its promotion will say."""
    try:
        return promotions.champion_version(task)
    except DermError:
        return None


def _beside_champion(
    promotions: Promotions, task: Task, candidate: ModelVersion, champion: ModelVersion | None
) -> dict[str, Any]:
    """A link to the page that sets a candidate beside the champion, where both were measured on the same cases."""
    page = promotions.beside_champion(task, candidate, champion)
    return {"comparison": link(promotions.registry.places, page)} if page else {}


def _checks(decision: Decision) -> dict[str, Any]:
    """What was looked at, as `derm promote` prints it."""
    return {"checks": table([check.row for check in decision.checks])} if decision.checks else {}


def _bundle_version(version: ModelVersion) -> str:
    return Bundle.open(version.bundle).version


def _version_result(
    task: Task, version: ModelVersion, data_version: str, registry: ModelRegistry, said: Mapping[str, Any]
) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data_version),
        metadata={
            "path": dg.MetadataValue.path(version.bundle),
            "version": version.number,
            "evaluation": dg.MetadataValue.path(version.evaluation),
            "mlflow_version": dg.MetadataValue.url(registry.link(task, version)),
            **said,
        },
    )
