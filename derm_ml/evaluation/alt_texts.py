"""What a figure shows, for those who do not see it: the finding in words, not the kind of figure alone."""

from __future__ import annotations

from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.words import headed, readable

MOST = 6  # findings in one text


def alt_text(name: str, evaluation: Evaluation) -> str:
    """One or two sentences for the figure `name`."""
    found = "; ".join(_findings(name, evaluation)[:MOST])
    return f"{headed(name)}: {found}." if found else f"{headed(name)}. {evaluation.captions.get(name, '')}".strip()


def _findings(name: str, evaluation: Evaluation) -> list[str]:
    metrics = evaluation.metrics
    if name == "roc":
        return [_of(f"AUC of {readable(label)}", metrics.get(f"auc_{label}")) for label in _labels(evaluation, "auc")]
    if name == "precision_recall":
        labels = _labels(evaluation, "average_precision")
        return [
            _of(f"average precision of {readable(label)}", metrics.get(f"average_precision_{label}"))
            for label in labels
        ]
    if name == "reliability" and "ece" in metrics:
        return [_of("the calibration error is", metrics["ece"])]
    if name == "confusion_matrix":
        return _confusion(evaluation)
    if name == "dice_distribution":
        return [_of("the mean Dice is", metrics.get("dice"))]
    if name == "worst_cases" and evaluation.tables.get("worst_cases_table"):
        rows = evaluation.tables["worst_cases_table"]
        return [f"the {len(rows)} images with the lowest Dice, from {rows[0]['dice']:.2f} to {rows[-1]['dice']:.2f}"]
    if name == "confident_mistakes" and (rows := evaluation.tables.get("confident_mistakes")):
        first = rows[0]
        said, truth = readable(first["predicted"]), readable(first["truth"])
        return [f"{len(rows)} wrong answers with their heatmaps, the most confident one {said}, in truth {truth}"]
    if name == "stress" and (rows := [r for r in evaluation.tables.get("stress", []) if r["loss"] is not None]):
        worst = max(rows, key=lambda row: row["loss"])
        return [f"{worst['change']} costs most, {worst['loss']:.3f} of AUC"]
    if name == "explanations" and "order_gain" in metrics:
        return [_of("between covering the coldest and the hottest cells first lies", metrics["order_gain"])]
    return []


def _labels(evaluation: Evaluation, start: str) -> list[str]:
    return [label for label in evaluation.labels if f"{start}_{label}" in evaluation.metrics]


def _of(what: str, metric: Metric | None) -> str:
    return f"{what} {metric.short}" if metric is not None and metric.value is not None else f"{what} undefined"


def _confusion(evaluation: Evaluation) -> list[str]:
    found = []
    for row in evaluation.tables.get("confusion_matrix", []):
        counts = {name: n for name, n in row.items() if name != "truth"}
        truth = str(row["truth"])
        found.append(f"of {sum(counts.values())} {readable(truth)} {counts.get(truth, 0)} were predicted rightly")
    return found
