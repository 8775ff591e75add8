"""Whether a model may become the champion, decided on evidence that is read again at that moment.

    evidence = Evidence.read(task, bundle, evaluation)      what the files say now, gates run again
    decision = decide(evidence, champion_evidence, policy)  pure: same evidence, same decision
    promote(task, candidate, versions, ledger, data)        the transaction: decide → alias → ledger

`derm promote <task> <model> --dry-run` shows the decision and changes nothing. No registry is known here:
whoever keeps versions and aliases fulfils `Versions`, and `Registry` towards the command line.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from derm_ml import DermError
from derm_ml.bundle import Bundle
from derm_ml.evaluation import Evaluation, EvaluationError
from derm_ml.files import sha256
from derm_ml.ledger import Ledger
from derm_ml.policy import Policy
from derm_ml.splits import split_hash
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.metrics.intervals import Difference

SPLIT = "test"  # promotion looks at no other split: the others chose epoch, temperature and threshold
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class PromotionError(DermError, RuntimeError):
    """A promotion or a rollback cannot be carried out."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the files of one model say about it now.

    `value` is the primary metric on the test split (None: undefined), with its 95 % interval `low`, `high`;
    `faults` are sentences on files that contradict each other; `red` are blocking gates that do not pass.
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

    @classmethod
    def read(cls, task: Task, bundle: Path, evaluation: Path, own_data: bool = True) -> Evidence:
        """Verify the bundle (sha256), load the evaluation and run the gates again.

        `own_data=False` for a model measured on a newer dataset than the one it was trained with.
        Raises `BundleError` or `EvaluationError` if either cannot be read.
        """
        model, measured = Bundle.open(bundle), Evaluation.load(evaluation)
        metric = measured.metrics.get(task.primary_metric)
        findings = [(gate, gate.check(measured)) for gate in task.gates if gate.blocking]
        return cls(
            model_version=model.version,
            recipe_name=model.card.recipe_name,
            dataset_md5=measured.dataset_md5,
            split_hash=measured.split_hash,
            evaluation_sha256=sha256(evaluation / "evaluation.json"),
            n=measured.n,
            value=metric.value if metric else None,
            low=metric.low if metric else None,
            high=metric.high if metric else None,
            faults=tuple(_faults(task, model, measured, own_data)),
            red=tuple(f"{gate.name}: {finding.message}" for gate, finding in findings if not finding.passed),
            folder=str(evaluation),
        )


def _faults(task: Task, model: Bundle, measured: Evaluation, own_data: bool) -> list[str]:
    """Where bundle, evaluation and predictions do not belong together."""
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
    table = measured.predictions
    # several cases may be made of one sample: a photo beside generated visits, and beside another patient's
    samples = table["sample" if "sample" in table else "id"].astype(str)
    if split_hash(dict.fromkeys(samples, measured.split), measured.split) != measured.split_hash:
        faults.append("the predictions do not cover exactly the frozen split")
    if table["id"].duplicated().any() or len(table) != measured.n:
        faults.append(f"{len(table)} predictions for {measured.n} cases")
    scores = table[[c for c in table.columns if c.startswith(("p.", "answer."))]]
    if scores.size == 0 or not all(map(math.isfinite, scores.to_numpy(float).ravel())):
        faults.append("a predicted probability is missing or not finite")
    return faults


@dataclass(frozen=True, slots=True)
class Decision:
    """Promote or not, and why in sentences."""

    promote: bool
    reasons: tuple[str, ...]


def decide(
    candidate: Evidence, champion: Evidence | None, policy: Policy, metric: str, paired: Difference | None = None
) -> Decision:
    """Refuse on faults, red blocking gates, an undefined or low metric, another split, a tie or worse.

    `paired` is the difference to the champion on the same cases. The test is one of non-inferiority: the candidate
    must score higher, and its interval may not reach the policy's `worse_by` below the champion.
    """
    against = [*candidate.faults, *(f"blocking gate is red: {text}" for text in candidate.red)]
    value = candidate.value
    if value is None or not math.isfinite(value):
        return Decision(False, (*against, f"{metric} is missing or undefined"))
    if value < policy.floor:
        against.append(f"{metric} {value:.4f} is below the floor of {policy.floor:.4f}")
    if champion is None:
        said = f"{metric} {value:.4f} (n = {candidate.n}); there is no champion yet"
        return Decision(not against, tuple(against) or (said,))
    if champion.split_hash != candidate.split_hash:
        against.append(f"measured on split {candidate.split_hash}, the champion on split {champion.split_hash}")
    against += [f"the champion's evidence cannot be used: {fault}" for fault in champion.faults]
    if champion.value is None or not math.isfinite(champion.value):
        against.append(f"the champion's {metric} is missing or undefined")
    elif value - champion.value <= policy.margin:
        against.append(
            f"{metric} {value:.4f} does not exceed the champion's {champion.value:.4f} by more than {policy.margin:.4f}"
        )
    elif policy.worse_by is not None and (paired is None or paired.low <= -policy.worse_by):
        found = f"{paired.low:+.4f} to {paired.high:+.4f}" if paired else "cannot be reckoned"
        against.append(
            f"not shown to be non-inferior: the paired 95 % interval of {metric} against the champion, {found}, "
            f"must lie above {-policy.worse_by:+g}"
        )
    else:
        test = f", paired 95 % interval {paired.low:+.4f} to {paired.high:+.4f}" if paired else ""
        said = f"{metric} {value:.4f} against the champion's {champion.value:.4f} on the same {candidate.n} cases{test}"
        return Decision(not against, tuple(against) or (said,))
    return Decision(False, tuple(against))


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model: its number, and where its bundle and its evaluation can be read."""

    number: int
    bundle: Path
    evaluation: Path


class Versions(Protocol):
    """Registered versions and the aliases `champion`, `challenger`, `previous` of each task."""

    def version(self, task: Task, alias: str) -> ModelVersion | None:
        """The version an alias points to, None if there is none."""
        ...

    def point(self, task: Task, alias: str, number: int) -> None:
        """Let an alias point to a version."""
        ...


class Registry(Protocol):
    """What the command line asks of the registry it finds in the entry point group `derm.registry`."""

    def champion(self, task: Task) -> Path:
        """The champion's bundle. Raises `DermError` if there is none."""
        ...

    def promote(self, task: Task, bundle: Path, *, dry_run: bool = False) -> Decision:
        """Register the bundle and its evaluation, decide, and move the alias if the decision says so."""
        ...

    def rollback(self, task: Task) -> str:
        """Make the previous champion the champion again; returns a sentence."""
        ...


class Data(Protocol):
    """The datasets models are measured on."""

    def present(self, task: Task) -> str:
        """The md5 of the dataset as it is now; empty where there is none."""
        ...

    def measure(self, task: Task, bundle: Path, dataset_md5: str) -> Path:
        """The folder of a model's evaluation on the test split of that dataset.

        Raises `DermError` if it cannot be made, or would be no test because the model learned from these images.
        """
        ...


def evidence_of(task: Task, candidate: ModelVersion, data: Data) -> Evidence:
    """What speaks for a candidate now: measured again where the data have changed since it was trained."""
    present = data.present(task)
    if not present or present == Bundle.open(candidate.bundle).card.dataset_md5:
        return Evidence.read(task, candidate.bundle, candidate.evaluation)
    try:
        return Evidence.read(task, candidate.bundle, data.measure(task, candidate.bundle, present), own_data=False)
    except DermError as error:
        why = f"it cannot be measured on the present dataset {present}: {error}"
        return replace(Evidence.read(task, candidate.bundle, candidate.evaluation), faults=(why,))


def weigh(task: Task, candidate: Evidence, champion: ModelVersion | None, data: Data) -> Decision:
    """Decide against the champion, measured again where its evaluation is on another split or other data.

    Changes nothing. The same ids may carry corrected labels: only the same dataset makes them the same cases.
    """
    policy = Policy.of(task)
    if champion is None:
        return decide(candidate, None, policy, task.primary_metric)
    try:
        held = Evidence.read(task, champion.bundle, champion.evaluation)
    except EvaluationError as error:
        return Decision(False, (f"the champion's evidence cannot be read: {error}",))
    other = (held.split_hash, held.dataset_md5) != (candidate.split_hash, candidate.dataset_md5)
    try:
        if other and not candidate.faults:
            measured = data.measure(task, champion.bundle, candidate.dataset_md5)
            held = Evidence.read(task, champion.bundle, measured, own_data=False)
        paired = None if policy.worse_by is None else _paired(task, candidate, held)
    except DermError as error:  # no traceback: the refusal and its reason belong into the ledger
        return Decision(False, (f"the comparison with the champion cannot be made: {error}",))
    return decide(candidate, held, policy, task.primary_metric, paired)


def _paired(task: Task, candidate: Evidence, champion: Evidence) -> Difference | None:
    """candidate − champion on the same cases; None where there is no such thing, which `decide` then refuses."""
    from derm_ml.comparison import primary_difference  # scipy: whoever only reads a policy does not pay for it

    if candidate.faults or champion.faults or candidate.split_hash != champion.split_hash:
        return None
    return primary_difference(Evaluation.load(Path(candidate.folder)), Evaluation.load(Path(champion.folder)), task)


def promote(task: Task, candidate: ModelVersion, versions: Versions, ledger: Ledger, data: Data) -> Decision:
    """Decide and, if the decision says so, move `champion` (the old one becomes `previous`); write both down.

    One promotion at a time. The intention is in the ledger before the first alias moves and the fact after the last,
    so what a crash cuts short is finished by the next call, whatever that asks for.
    """
    with ledger.locked():
        _finish(task, versions, ledger)
        champion = versions.version(task, CHAMPION)
        if champion and champion.number == candidate.number:
            return Decision(True, (f"version {candidate.number} is the champion already",))
        evidence = evidence_of(task, candidate, data)
        decision = weigh(task, evidence, champion, data)
        before = champion.number if champion else None
        entry: dict[str, Any] = {
            "task": task.name,
            "version": candidate.number,
            "champion_before": before,
            "reasons": decision.reasons,
            "policy": Policy.of(task).model_dump(),
            "evidence": asdict(evidence),
        }
        if not decision.promote:
            ledger.append({"event": "refused", **entry})
            return decision
        ledger.append({"event": "promoting", **entry})
        _move(task, versions, ledger, "promoted", candidate.number, before)
    return decision


def rollback(task: Task, versions: Versions, ledger: Ledger) -> str:
    """Exchange `champion` and `previous`, so that a second call undoes the first. Returns a sentence.

    The previous bundle is verified before the alias moves. A rollback that a crash cut short is finished first, and
    is then all that happens. Raises `PromotionError` if there is no previous champion.
    """
    with ledger.locked():
        finished = _finish(task, versions, ledger)
        if finished and finished["event"] == "rolled_back":
            version = finished["version"]
            return f"version {version} is the champion of {task.name} again: a rollback cut short was finished"
        champion, previous = versions.version(task, CHAMPION), versions.version(task, PREVIOUS)
        if previous is None or (champion and champion.number == previous.number):
            raise PromotionError(f"{task.name} has no previous champion to go back to")
        Bundle.open(previous.bundle)
        before = champion.number if champion else None
        ledger.append(
            {"event": "rolling_back", "task": task.name, "version": previous.number, "champion_before": before}
        )
        _move(task, versions, ledger, "rolled_back", previous.number, before)
    return f"version {previous.number} is the champion of {task.name} again"


def _move(
    task: Task, versions: Versions, ledger: Ledger, event: str, champion: int, previous: int | None
) -> dict[str, Any]:
    """`champion` first: whether it points to the new version says whether the decision took effect."""
    versions.point(task, CHAMPION, champion)
    if previous is not None:
        versions.point(task, PREVIOUS, previous)
    return ledger.append({"event": event, "task": task.name, "version": champion})


def _finish(task: Task, versions: Versions, ledger: Ledger) -> dict[str, Any] | None:
    """Carry out what a crash cut short, the ledger's last word being an intention; the entry that ends it, or None.

    A promotion whose `champion` had not moved changed nothing: it is decided again, on the evidence of that day.
    """
    last: dict[str, Any] = next(iter(ledger.entries()[-1:]), {"event": ""})
    if last["event"] == "rolling_back":
        return _move(task, versions, ledger, "rolled_back", last["version"], last["champion_before"])
    champion = versions.version(task, CHAMPION)
    if last["event"] == "promoting" and champion and champion.number == last["version"]:
        return _move(task, versions, ledger, "promoted", last["version"], last["champion_before"])
    return None
