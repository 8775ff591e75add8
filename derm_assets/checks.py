"""Data rules and gates of a task as asset checks, named as the sentence that is true when they pass.

A blocking one fails with ERROR and stops everything downstream of its asset in the same run; the others warn.
Annotations are evaluated here (no `from __future__ import annotations`): Dagster reads the context's type from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Any, TypeVar

import dagster as dg

from derm_assets.display import described, numbers, table
from derm_assets.failures import told
from derm_assets.lineage import latest
from derm_ml.evaluation.verdicts import FAILED, PASSED, UNKNOWN
from derm_ml.task import DataRule, Finding, Gate, Task

Sentence = TypeVar("Sentence", DataRule, Gate)


def data_rules(task: Task, dataset: dg.AssetKey) -> dg.AssetChecksDefinition:
    """The task's data rules on `<task>/dataset`."""

    @dg.multi_asset_check(
        name=f"{task.name}__data_rules", specs=_specs(task.rules, dataset), can_subset=True, pool="dvc"
    )
    @told
    def check_rules(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from derm_ml.data.dataset import Dataset

        data = Dataset.open(latest(context.instance, dataset).path)
        for rule in _asked(task.rules, context):
            yield _result(rule, dataset, rule.check(data))

    return check_rules


def gates(task: Task, evaluation: dg.AssetKey) -> dg.AssetChecksDefinition:
    """The task's gates on `<task>/evaluation`."""

    @dg.multi_asset_check(name=f"{task.name}__gates", specs=_specs(task.gates, evaluation), can_subset=True)
    @told
    def check_gates(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from derm_ml.evaluation.record import Evaluation

        made = latest(context.instance, evaluation)
        measured = Evaluation.load(made.path)
        marks = {name: made.metadata[name] for name in ("split_hash", "split_number") if name in made.metadata}
        for gate in _asked(task.gates, context):
            yield _result(gate, evaluation, gate.check(measured), marks)

    return check_gates


def _specs(sentences: Sequence[DataRule | Gate], asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(s.name, asset=asset, blocking=s.blocking, description=cleandoc(s.description))
        for s in sentences
    ]


def _asked(sentences: Sequence[Sentence], context: dg.AssetCheckExecutionContext) -> list[Sentence]:
    """Those of the sentences a person or a job selected."""
    names = {key.name for key in context.selected_asset_check_keys}
    return [sentence for sentence in sentences if sentence.name in names]


def _result(
    sentence: DataRule | Gate, asset: dg.AssetKey, finding: Finding, marks: Mapping[str, Any] = {}
) -> dg.AssetCheckResult:
    """`marks`: which split the figures of a check, which are plotted over time, are of."""
    return dg.AssetCheckResult(
        check_name=sentence.name,
        asset_key=asset,
        passed=finding.passed,
        # what cannot be evaluated is not green, and stops nothing unless nothing passes without it
        severity=dg.AssetCheckSeverity.ERROR if sentence.stops(finding) else dg.AssetCheckSeverity.WARN,
        description=described(finding.message),
        metadata={
            "result": PASSED if finding.passed else FAILED if finding.evaluable else UNKNOWN,
            **numbers(finding.figures),
            **marks,
            **({"rows": table(finding.rows)} if finding.rows else {}),
        },
    )
