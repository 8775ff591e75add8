"""What the files of one model say about it now. Nothing is believed that can be counted again.

    evidence = Evidence.read(task, bundle, evaluation, dataset)

bundle verified (sha256, signature) → what it learned from held against the test split → data checks run again →
predictions held against the dataset → every metric recounted from them → some cases predicted again → checks run again
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derm_ml.bundles.bundle import MODEL, Bundle, BundleCard, BundleError
from derm_ml.cards.pages import cards_of
from derm_ml.data.checks import failed_checks
from derm_ml.data.learned_ids import LearnedIds
from derm_ml.data.licences import forbidden
from derm_ml.data.splits import split_hash
from derm_ml.evaluation.recent import recent_in_words
from derm_ml.evaluation.record import SUMMARY, Evaluation, EvaluationError
from derm_ml.evaluation.verdicts import Verdict, too_little
from derm_ml.files import sha256
from derm_ml.metrics.metric import Metric
from derm_ml.promotion.contract import SPLIT
from derm_ml.promotion.policy import Policy

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.data.dataset import Dataset
    from derm_ml.task import Finding, Gate, Task

SAME = 1e-6  # a metric counted again from the same predictions may differ by this: another order of summation


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the files of one model say about it now.

    `value` is the primary metric on the test split (None: undefined), with its 95 % interval `low`, `high`, counted
    again from the predictions; `faults` are sentences on files that contradict each other; `red` are sentences on
    blocking checks of the model that fail, or lack the data without which nothing passes, `red_data` the failed ones of
    the dataset it was measured on. `network` names a classifier's graph and
    what is done before it, whatever its calibration. `flattered` says why the value may be too good: the model learned
    from some of the images, which is a fault of a candidate, and only raises the bar where it is the champion.
    """

    model_version: str
    recipe_name: str
    dataset_md5: str
    split_hash: str
    evaluation_sha256: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    faults: tuple[str, ...] = ()
    red: tuple[str, ...] = ()
    folder: str = ""  # of the evaluation: its predictions are compared case by case
    red_data: tuple[str, ...] = ()
    flattered: tuple[str, ...] = ()
    network: str = ""
    repeated: int = 0  # cases that were predicted again
    checks: tuple[Verdict, ...] = ()  # every check of the model, those that only warn too
    recent: str = ""  # what it reaches on recent patients, as its evaluation says; it decides nothing
    unfit: tuple[str, ...] = ()  # what its cards do not say, and licences that do not allow the policy's target
    external: Verdict | None = None  # what it reaches on the set from elsewhere that the policy names

    @classmethod
    def read(cls, task: Task, bundle: Path, evaluation: Path, dataset: Dataset, own_data: bool = True) -> Evidence:
        """Read and recount everything. `own_data=False` for a model measured on a newer dataset than its own.

        Raises `BundleError` or `EvaluationError` if bundle or evaluation cannot be read.
        """
        model, stored = Bundle.open_trusted(bundle), Evaluation.load(evaluation)
        faults = _contradictions(task, model, stored, dataset, own_data)
        red_data = failed_checks(task, dataset)
        measured, repeated = stored, 0
        if not faults:  # else there is nothing that belongs together to count
            measured, faults = _recounted(task, model.card, stored, dataset)
        if not faults and not red_data:  # damaged images cannot be asked again
            faults, repeated = _repeated(task, bundle, stored, dataset)
        metric = measured.metrics.get(task.primary_metric)
        # a warning may read tables, which are not counted again
        findings = [(gate, gate.check(measured if gate.blocking else stored)) for gate in task.gates]
        return cls(
            model_version=model.version,
            recipe_name=model.card.recipe_name,
            dataset_md5=stored.dataset_md5,
            split_hash=stored.split_hash,
            evaluation_sha256=sha256(evaluation / SUMMARY),
            n=measured.n,
            value=metric.value if metric else None,
            low=metric.low if metric else None,
            high=metric.high if metric else None,
            faults=tuple(faults),
            red=tuple(_refusal(gate, finding) for gate, finding in findings if gate.stops(finding)),
            folder=str(evaluation),
            red_data=tuple(red_data),
            flattered=tuple(_known_before(model, dataset)),
            network=network_of(model.card),
            repeated=repeated,
            checks=tuple(Verdict.of(gate, finding) for gate, finding in findings),
            recent=recent_in_words(stored, task.primary_metric),
            unfit=tuple(_unfit(task, model, replace(measured, tables=stored.tables), dataset)),
        )


def _refusal(gate: Gate, finding: Finding) -> str:
    said = Verdict.of(gate, finding)
    return f"a blocking check fails: {gate.name}: {finding.message}" if finding.evaluable else too_little(said)


def measured_elsewhere(
    task: Task, bundle: Path, evaluation: Path, dataset: Dataset
) -> tuple[Evaluation, tuple[str, ...]]:
    """The evaluation of a model on the test split of a dataset it does not come from, its metrics counted again, and
    sentences on why it cannot be used: it contradicts model or data, or the model knows some of the images.

    Raises `BundleError` or `EvaluationError` if bundle or evaluation cannot be read.
    """
    model, stored = Bundle.open_trusted(bundle), Evaluation.load(evaluation)
    faults = [
        *_contradictions(task, model, stored, dataset, own_data=False),
        *_known_before(model, dataset),
        *(f"a blocking data check fails: {text}" for text in failed_checks(task, dataset)),
    ]
    if faults:
        return stored, tuple(faults)
    found, faults = _recounted(task, model.card, stored, dataset)
    if not faults:
        faults, _ = _repeated(task, bundle, stored, dataset)
    return found, tuple(faults)


def network_of(card: BundleCard) -> str:
    """A name (sha256) of a classifier's graph and of what is done before it; empty for other heads.

    Two bundles of one network differ in calibration and thresholds alone. A segmenter's mask rule and a pair matcher's
    numbers are part of the method, so theirs have no such name.
    """
    if card.head not in ("softmax", "sigmoid"):
        return ""
    parts = [card.files[MODEL], card.views, card.preprocessing.model_dump(mode="json"), card.fellow, card.attributes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _unfit(task: Task, model: Bundle, measured: Evaluation, dataset: Dataset) -> list[str]:
    """Why nobody may be shown this model, however good it is."""
    incomplete = [sentence for card in cards_of(task, model, measured, dataset) for sentence in card.missing]
    return [*dict.fromkeys(incomplete), *forbidden(model.card.licences, Policy.of(task).target)]


def _known_before(model: Bundle, dataset: Dataset) -> list[str]:
    try:
        return LearnedIds.of(model).in_split(dataset, SPLIT)
    except BundleError as error:
        return [str(error)]


def _contradictions(task: Task, model: Bundle, measured: Evaluation, dataset: Dataset, own_data: bool) -> list[str]:
    """Where bundle, evaluation, predictions and dataset do not belong together."""
    faults = []
    if {model.card.task, measured.task} != {task.name}:
        faults.append(f"bundle and evaluation are of {model.card.task} and {measured.task}, not of {task.name}")
    if measured.model_version != model.version:
        faults.append(f"the evaluation is of model {measured.model_version}, the bundle is {model.version}")
    if measured.split != SPLIT:
        faults.append(f"the evaluation is on the {measured.split} split, not on {SPLIT}")
    if own_data and measured.dataset_md5 != model.card.dataset_md5:
        faults.append(f"measured on dataset {measured.dataset_md5}, trained on {model.card.dataset_md5}")
    if own_data and model.card.split_hashes.get(SPLIT) != measured.split_hash:
        faults.append(f"the test split is {measured.split_hash}, the bundle knows {model.card.split_hashes.get(SPLIT)}")
    if measured.dataset_md5 != dataset.md5:
        faults.append(f"measured on dataset {measured.dataset_md5}, the one to measure on is {dataset.md5}")
    if not measured.predictions_sha256:
        faults.append("evaluation.json does not hold the sha256 of its predictions: run `derm evaluate` again")
    table = measured.predictions
    # several cases may be made of one sample: a photo beside generated visits, and beside another patient's
    samples = table["sample" if "sample" in table else "id"].astype(str)
    here = dict.fromkeys(dataset.split(SPLIT)["id"].astype(str), SPLIT)
    if set(samples) != set(here) or split_hash(here, SPLIT) != measured.split_hash:
        faults.append("the predictions do not cover exactly the frozen split")
    if table["id"].duplicated().any() or len(table) != measured.n:
        faults.append(f"{len(table)} predictions for {measured.n} cases")
    scores = table[[c for c in table.columns if c.startswith(("p.", "answer."))]]
    if scores.size == 0 or not all(map(math.isfinite, scores.to_numpy(float).ravel())):
        faults.append("a predicted probability is missing or not finite")
    return faults


def _recounted(task: Task, card: BundleCard, stored: Evaluation, dataset: Dataset) -> tuple[Evaluation, list[str]]:
    """The evaluation with its metrics counted again from the stored predictions, and where the stored ones differ."""
    try:
        # tables are not counted again: a check that needs one does not find it and fails
        measured = replace(stored, metrics=task.recount(card, stored.predictions, dataset, SPLIT), tables={})
    except (EvaluationError, KeyError, ValueError) as error:
        return stored, [f"the metrics cannot be counted again from the stored predictions: {error}"]
    wrong = [
        f"{name} {_shown(stored.metrics.get(name))} instead of {_shown(metric)}"
        for name, metric in measured.metrics.items()
        if not _same(stored.metrics.get(name), metric)
    ]
    wrong += [f"{name}, which cannot be counted" for name in stored.metrics if name not in measured.metrics]
    if not wrong:
        return measured, []
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return measured, [f"evaluation.json says other metrics than its predictions: {'; '.join(wrong[:3])}{more}"]


def _same(stored: Metric | None, counted: Metric) -> bool:
    if stored is None or stored.n != counted.n:
        return False
    pairs = [(getattr(stored, name), getattr(counted, name)) for name in ("value", "low", "high")]
    return all(a == b or (a is not None and b is not None and abs(a - b) <= SAME) for a, b in pairs)


def _shown(metric: Metric | None) -> str:
    return "missing" if metric is None else str(metric)


def _repeated(task: Task, bundle: Path, stored: Evaluation, dataset: Dataset) -> tuple[list[str], int]:
    """Whether cases drawn anew each time are predicted as the stored predictions say; and how many were."""
    policy = Policy.of(task)
    names = sorted(stored.predictions["id"].astype(str))
    drawn = random.SystemRandom().sample(names, min(policy.repeated, len(names)))
    found = task.repeat(task.load(bundle), dataset, drawn)
    said = stored.predictions.set_index(stored.predictions["id"].astype(str))
    wrong = []
    for row in found.to_dict("records"):
        column = _first_difference(row, said.loc[str(row["id"])], policy.tolerance)
        if column:
            wrong.append(
                f"{row['id']}: {column} is {row[column]:.4f}, not {float(said.at[str(row['id']), column]):.4f}"
            )
    if set(found["id"].astype(str)) != set(drawn):
        wrong.append(f"only {len(found)} of them can be predicted")
    if not wrong:
        return [], len(drawn)
    sentence = f"{len(wrong)} of {len(drawn)} test cases predicted again differ from the stored predictions: {wrong[0]}"
    return [sentence], len(drawn)


def _first_difference(found: Mapping[Any, Any], said: pd.Series, tolerance: float) -> str:
    """The first number that differs by more than `tolerance` (of 1 + its size); missing is equal to missing."""
    for column, value in found.items():
        if column == "id":
            continue
        a, b = float("nan" if value is None else value), said.get(column)
        b = float("nan" if b is None else b)
        if math.isnan(a) and math.isnan(b):
            continue
        if not abs(a - b) <= tolerance * (1 + abs(b)):
            return str(column)
    return ""
