"""What a model is worth, from a terminal: evaluate it, compare it with others, make its maps and sheets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from derm_ml import RESEARCH_USE, DermError
from derm_ml.asking.prevalence import shares_of
from derm_ml.bundles.bundle import Bundle
from derm_ml.cli.arguments import (
    PreparedData,
    Prevalence,
    TaskName,
    TrainedModel,
    champion_on,
    dataset_of,
    prevalence_option,
    replaceable,
    split_of,
    task_of,
)
from derm_ml.cli.terminal import notes, print_finding, print_result, print_table, progress_bar
from derm_ml.evaluation.prevalence import TABLE, with_prevalence
from derm_ml.evaluation.recent import recent_in_words
from derm_ml.evaluation.record import SUMMARY, Evaluation
from derm_ml.evaluation.report import PAGE
from derm_ml.machine import WriteError, writing
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import readable, signed_interval, threshold_in_words
from derm_ml.model_folder import ModelFolder, bundle_named
from derm_ml.places import installation
from derm_ml.progress import hearing
from derm_ml.promotion.beside import beside_champion
from derm_ml.promotion.contract import SPLIT
from derm_ml.promotion.ledger import Ledger
from derm_ml.promotion.looks import count_look
from derm_ml.promotion.report import measure_model, save_with_verdict
from derm_ml.sentences import WrongValue, unknown
from derm_ml.shared import SharedPlaceError
from derm_ml.synthetic_mark import small_print_of
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.data.dataset import Dataset


def evaluate(
    task_name: TaskName,
    model: TrainedModel,
    split: Annotated[str, typer.Option(help="train, validation, test or recent")] = "test",
    data: PreparedData = None,
    prevalence: Prevalence = "",
) -> None:
    """Measure a model on a frozen split: metrics with intervals, figures, one HTML report.

    With --prevalence the report adds the positive predictive value of each operating point where the model is used.

    With --data of another dataset than the model was trained on it is an external validation: the model's own
    evaluation stays, and the report sets the two side by side.
    """
    task = task_of(task_name)
    split = split_of(split)
    bundle = bundle_named(model)
    predictor, dataset = task.load(bundle), dataset_of(task, data)
    model_folder = ModelFolder.holding(bundle)

    def corrected(evaluation: Evaluation) -> Evaluation:
        return with_prevalence(evaluation, predictor.card, prevalence) if prevalence else evaluation

    champion = champion_on(task, dataset.md5)
    if prevalence_option(task, prevalence):
        shares_of(prevalence, predictor.card)  # before anything is computed
    with progress_bar(f"evaluate on {split}") as bar:
        step: Any = bar.add_task("images", total=len(dataset.split(split)) or None)
        with hearing(lambda images: bar.advance(step, images)):
            external = data is not None and _is_external(task, data, dataset, predictor.card)
            own = split == SPLIT and not external
            if own:
                evaluation = measure_model(task, predictor, dataset, model_folder, corrected, champion)
            else:
                evaluation = task.evaluate(predictor, dataset, split, model_folder)
        folder = model_folder.evaluation(split)
        if external:
            evaluation = _external(task, evaluation, predictor.card, model_folder, dataset)
            folder = model_folder.external(dataset.md5, split)
        if not own:  # else it is corrected and saved already
            evaluation = corrected(evaluation)
            save_with_verdict(task, evaluation, folder, external)
    try:
        count_look(Ledger.of(installation(), task.name), evaluation, Bundle.open(bundle).card, "evaluate")
    except (WriteError, SharedPlaceError) as error:
        notes.print(f"- this look at the test split is not counted: {error}", markup=False)
    columns = ("metric", "value", "95 % interval", "n")
    table = Table(*columns, title=f"{task.title} · {split}")
    for name, metric in evaluation.metrics.items():
        if metric.value is None:
            continue
        interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4f} to {metric.high:.4f}"
        of = metric_named(name)
        table.add_row(f"{of.title} {of.arrow}".rstrip(), f"{metric.value:.4f}", interval, str(metric.n))
    table.caption = f"↑ higher is better, ↓ lower is better. {small_print_of(evaluation.is_synthetic)}"
    print_table(table)
    for row in evaluation.tables.get(TABLE, []):
        value = "undefined" if row["ppv"] is None else f"{row['ppv']:.3f} ({row['ppv_95']})"
        where = f"{readable(row['label'])} at {threshold_in_words(row['point'])}"
        notes.print(f"PPV of {where} where {100 * row['prevalence']:g} % have it: {value}", markup=False)
    if folder != model_folder.evaluation(split):
        notes.print(evaluation.notes[0], soft_wrap=True)
    undefined = [metric.note for metric in evaluation.metrics.values() if metric.value is None]
    if undefined:
        notes.print(f"{len(undefined)} figures could not be measured, the page names them:")
    for why, times in Counter(undefined).items():
        notes.print(f"– {why}{f' ({times} figures)' if times > 1 else ''}", soft_wrap=True)
    for gate in task.gates:
        print_finding(gate.name, gate.check(evaluation))
    if own and champion is not None:
        notes.print(f"– {beside_champion(task, evaluation, champion).sentence}", soft_wrap=True)
    if recent := recent_in_words(evaluation, task.primary_metric):
        notes.print(f"– {recent}", soft_wrap=True)
    print_result(folder / PAGE)


def _is_external(task: Task, data: Path, dataset: Dataset, card: BundleCard) -> bool:
    """Whether `--data` names another dataset than the model's own, and no later version of it: that is the task's."""
    return dataset.md5 != card.dataset_md5 and data.resolve() != installation().prepared(task.name).resolve()


def _external(
    task: Task, evaluation: Evaluation, card: BundleCard, model_folder: ModelFolder, dataset: Dataset
) -> Evaluation:
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.external import as_external

    own = model_folder.evaluation("test")
    trained_on = installation().version(task.name, card.dataset_md5)
    seen = len(Dataset.open(trained_on).also_learned(dataset, evaluation.split)) if trained_on.exists() else None
    return as_external(evaluation, card, Evaluation.load(own) if (own / SUMMARY).exists() else None, seen)


def compare(
    task_name: TaskName,
    runs: Annotated[
        list[Path], typer.Argument(help="evaluated models, two or more; the first is the reference", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="the split they were evaluated on")] = "test",
    into: Annotated[Path | None, typer.Option(help="default: out/TASK/comparison")] = None,
) -> None:
    """Set models side by side on the same frozen cases: paired differences with intervals, as a table and as a page
    with the cases on which they differ.
    """
    from derm_ml.evaluation.comparison import compare as compare_runs
    from derm_ml.evaluation.comparison import named_apart, read_run
    from derm_ml.evaluation.comparison_report import PAGE as COMPARISON
    from derm_ml.promotion.report import save_compared

    task = task_of(task_name)
    split = split_of(split)
    found = named_apart([read_run(path, split) for path in runs])
    other = next((run for run in found if run.evaluation.task != task.name), None)
    if other:
        raise DermError(f"{other.name} is a model of {other.evaluation.task}, not of {task.name}")
    target = replaceable(into or installation().comparison(task.name), "comparison.json")
    with notes.status("resampling patients"):
        comparison = compare_runs(found, task)
        folder = save_compared(task, comparison, target, installation())
    title = f"{task.title} · {comparison.split} {comparison.split_hash} · reference {comparison.runs[0].name}"
    table = Table(
        "metric", "run", "reference", "value", "difference", "95 % interval", "DeLong", "verdict",
        title=title,
        caption=f"{comparison.n} cases, {comparison.groups} groups resampled. {comparison.by_chance} {RESEARCH_USE}",
    )  # fmt: skip
    for row in comparison.rows:
        delong = ""  # without variance, as of a model beside itself, it is no interval
        if row.delong and row.delong.low != row.delong.high:
            delong = signed_interval(row.delong.low, row.delong.high, 4)
        values = ["" if value is None else f"{value:.4f}" for value in (row.reference, row.value)]
        found = row.difference
        told = [f"{found.value:+.4f}", signed_interval(found.low, found.high, 4)] if found else ["", ""]
        of = metric_named(row.metric)
        table.add_row(
            f"{of.title} {of.arrow}".rstrip(),
            row.run,
            *values,
            *told,
            delong,
            f"{row.verdict}: {row.remark}" if row.remark else row.verdict,
        )
    print_table(table)
    print_result(folder / COMPARISON)


def make(
    task_name: TaskName,
    artifact: Annotated[str, typer.Argument(help="e.g. heatmaps, embeddings, embedding_map", show_default=False)],
    model: TrainedModel,
    data: PreparedData = None,
) -> None:
    """Make one more artifact of a model: heatmaps, embeddings, a map of them, similar images, matched pairs."""
    task = task_of(task_name)
    known = {a.name: a for a in task.artifacts}
    if artifact not in known:
        raise WrongValue(unknown("artifact", artifact, known, f"{task.name} makes"))
    bundle = bundle_named(model)
    predictor, dataset = task.load(bundle), dataset_of(task, data)
    folder = ModelFolder.holding(bundle).artifact(artifact)
    with writing(folder, making=True):
        folder.mkdir(exist_ok=True)
    with notes.status(f"making {artifact}"):
        made = known[artifact].make(predictor, dataset, folder)
    for path in made.values():
        print_result(path)
