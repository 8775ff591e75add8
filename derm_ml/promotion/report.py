"""The report of an evaluation with the checks of its task: the same page from the command line and from Dagster.

evaluation = measure_model(task, predictor, dataset, folder)      on the test split, and on recent patients
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml.evaluation import report
from derm_ml.evaluation.recent import beside_recent
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.verdicts import FAILED, PASSED, UNKNOWN, Verdict
from derm_ml.files import replacing_file
from derm_ml.metrics.glossary import metric_named
from derm_ml.promotion.beside import Found, beside_champion
from derm_ml.promotion.contract import SPLIT
from derm_ml.promotion.policy import Policy
from derm_ml.recipe import changed_settings
from derm_ml.records import DataError

if TYPE_CHECKING:
    from derm_ml.contract import Predictor
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.comparison import Comparison
    from derm_ml.model_folder import ModelFolder
    from derm_ml.places import Installation
    from derm_ml.task import Task


def measure_model(
    task: Task,
    predictor: Predictor,
    dataset: Dataset,
    folder: ModelFolder,
    beside: Callable[[Evaluation], Evaluation] = lambda evaluation: evaluation,
    champion: Found | None = None,
) -> Evaluation:
    """Measure a model on the test split and on recent patients, and write both into its folder, each with its page.

    `beside` adds to the evaluation on the test split what was asked for beside it, before it is written; `champion`
    finds the one that its page compares it with.

    Returned is the evaluation on the test split: a table in it says what was reached on recent patients, and a figure
    what the models beside it did.
    """
    from derm_ml.evaluation.trend import with_trend  # figures

    test = task.evaluate(predictor, dataset, SPLIT, folder)
    test, recent = beside_recent(task, predictor, dataset, test, folder)
    if recent is not None:
        save_with_verdict(task, recent, folder.evaluation(recent.split))
    test = beside(with_trend(test, recent, folder, task.primary_metric))
    save_with_verdict(task, test, folder.evaluation(SPLIT), champion=champion)
    return test


def save_with_verdict(
    task: Task, evaluation: Evaluation, folder: Path, external: bool = False, champion: Found | None = None
) -> Path:
    """Write the evaluation and its page, which opens with every check of the task, at `folder`, and return `folder`.

    `external`: it was measured on a dataset that the model does not come from. `champion` finds the one that the page
    compares it with; without it the page says nothing of a champion.
    """
    opening = opening_of(task, evaluation, external)
    if champion is not None:
        opening = replace(opening, champion=beside_champion(task, evaluation, champion))
    return report.save(evaluation, folder, opening)


def show_again(task: Task, folder: Path, champion: Found) -> None:
    """Write the page of a saved evaluation on the test split again, beside the champion of today.

    That of another task's model stays as it is: whoever uses it says so.
    """
    evaluation = Evaluation.load(folder)
    if evaluation.task != task.name or task.primary_metric not in evaluation.metrics:
        return
    opening = replace(opening_of(task, evaluation), champion=beside_champion(task, evaluation, champion))
    with replacing_file(folder / report.PAGE) as temporary:
        temporary.write_text(report.render(evaluation, opening), encoding="utf-8")


def save_compared(task: Task, comparison: Comparison, folder: Path, here: Installation) -> Path:
    """Write a comparison and its page at `folder`, and return `folder`.

    The policy says how many patients may decide between two models, and where the service does. Images of cases are
    shown if the dataset they were measured on lies in the installation.
    """
    from derm_ml.evaluation.comparison_page import Basis  # OpenCV
    from derm_ml.evaluation.comparison_report import save

    policy = Policy.of(task)
    basis = Basis(policy.patients, policy.operating_point)
    return save(comparison, task, folder, basis, _dataset_here(here, comparison))


def _dataset_here(here: Installation, comparison: Comparison) -> Dataset | None:
    """A dataset with the cases that were compared: the frozen version, else the prepared one; None where neither is."""
    from derm_ml.data.dataset import Dataset

    md5 = comparison.runs[0].evaluation.dataset_md5
    for folder in (here.version(comparison.task, md5), here.prepared(comparison.task)):
        try:
            found = Dataset.open(folder)
        except DataError:  # not prepared, or damaged: the page names the cases all the same
            continue
        if found.split_hashes.get(comparison.split) == comparison.split_hash:
            return found
    return None


def opening_of(task: Task, evaluation: Evaluation, external: bool = False) -> report.Opening:
    """What the page says before any metric. Promotion runs the same checks on counted evidence, and more of them."""
    policy = Policy.of(task)
    checks = [Verdict.of(gate, gate.check(evaluation)) for gate in task.gates]
    elsewhere = "" if evaluation.split == SPLIT else f"the {evaluation.split} split"
    return report.Opening(
        (_floor(task, evaluation, policy), _patients(evaluation, policy), *checks),
        policy.operating_point,
        changed_settings(task.recipes.get(evaluation.recipe_name), evaluation.recipe),
        "data the model does not come from (external validation)" if external else elsewhere,
    )


def _floor(task: Task, evaluation: Evaluation, policy: Policy) -> Verdict:
    metric = evaluation.metrics[task.primary_metric]
    known, good = metric.value is not None, metric.value is not None and metric.value >= policy.floor
    return Verdict(
        "reaches_the_floor",
        f"{metric_named(task.primary_metric).title} {metric}; the floor of the policy is {policy.floor:g}",
        PASSED if good else FAILED if known else UNKNOWN,
        "a model that says next to nothing",
        value=metric.short if known else "",
        limit=f"at least {policy.floor:g}",
        needed=not known,
    )


def _patients(evaluation: Evaluation, policy: Policy) -> Verdict:
    """Whether the split is large enough to tell two models apart: without a champion nothing is compared."""
    n, needed = evaluation.n_patients, policy.patients
    why = f"the split has {n} patients, a comparison with a champion needs {needed}"
    return Verdict(
        "enough_patients",
        why,
        PASSED if n >= needed else UNKNOWN,
        "a choice between two models by luck",
        blocking=False,
        value=str(n),
        limit=f"at least {needed}",
    )
