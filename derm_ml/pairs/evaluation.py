"""Measure a pair matcher on one frozen split: matching, states, registration, refusal, by difficulty and beside the
original's way.

In this order: ask every case → metrics with intervals (patients resampled) → tables → figures → Evaluation.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from derm_ml.asking.pair import STATES
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.notes import GROWS
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.explain.matches import side_by_side
from derm_ml.figures.charts import confusion_figure, reliability_figure
from derm_ml.figures.sheets import Sheet
from derm_ml.metrics import calibration, matching
from derm_ml.metrics.intervals import Statistic, clopper_pearson, measured
from derm_ml.metrics.matching import Counts
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs import measure
from derm_ml.pairs.cases import KINDS, Case, Kind, cases
from derm_ml.pairs.figures import difficulty_figure, methods_figure, same_skin_figure
from derm_ml.pairs.predictions import baselines_of, said_of
from derm_ml.pairs.predictor import PairPredictor
from derm_ml.records import RECENT
from derm_ml.task import Task

BASELINES = ("original", "unregistered")  # matchings without refusal, counted on the same pairs
COUNTS = ("n_matched", "n_predicted", "n_true", "n_states_correct", "n_states")
REPEATED = ("refused", "same", *COUNTS, "registration_error")
APART = "harder."  # before the columns of harder pairs, so that whoever adds up the others leaves them out
FAILURES = 9  # the pairs with most wrong matches and states
# (parameter, edges of the bins, how they are written)
DIFFICULTIES: dict[str, tuple[tuple[float, ...], str]] = {
    "rotation": ((0, 8, 16, 25, 181), "degrees"),
    "scale": ((1, 1.1, 1.2, 1.3, 9), "factor"),
    "turn": ((0, 10, 20, 91), "degrees"),
    "light": ((0, 0.05, 0.1, 1.1), "mean change"),
    "expression": ((0, 0.012, 0.018, 1), "of the side"),
    "changed": ((0, 0.2, 0.5, 2.1), "share of new and healed"),
    "mirrored": ((0, 0.5, 1.1), "mirrored"),
    "occluded": ((0, 0.5, 1.1), "something in the way"),
    "made_up": ((0, 0.5, 1.1), "make-up"),
    "bearded": ((0, 0.5, 1.1), "a beard"),
    "glasses": ((0, 0.5, 1.1), "glasses"),
}
CAPTIONS = {
    "methods": "The same pairs. 'as the original' finds the face, stacks and takes the best overlap, several boxes to "
    "one; 'overlap alone' does not register at all.",
    "by_kind": "delivered: two photos with known matches; generated: a second visit made from one photo, with exact "
    "truth; harder: such a visit months later, the head turned, by another camera, some with make-up, a beard or "
    "glasses, which no overall figure counts; same_person: two photos of one person; wrong_person: photos of two "
    "people. Left out are boxes without a lesion id or a state: nobody has said what became of them.",
    "by_difficulty": "Generated pairs only, for which it is known how much they differ.",
    "harder_pairs_by_difficulty": "Harder pairs only: one thing at a time, the others as they come.",
    "states": "Row: truth. Column: what was said. A refused pair has said nothing, and that counts as wrong.",
    "reliability": "Confidence of a match against how often it is right.",
    "same_skin": "Probability that both photos show the same skin, of pairs that do and pairs that do not. Left of the "
    "line a pair is refused.",
    "failures": "The pairs with most errors. Dashed: a wrong match.",
    "refusals": "Pairs of one person that were refused, and pairs of two that were answered.",
}


def evaluate_pairs(
    task: Task,
    predictor: PairPredictor,
    dataset: Dataset,
    split: str,
    numbers: measure.Numbers,
    model_folder: ModelFolder | None = None,
) -> Evaluation:
    """Everything that is measured of a pair matcher on one split.

    Metrics: `match_f1`, `match_precision`, `match_recall`, `state_accuracy` over all pairs of known truth, the same
    F1 by kind, `registration_error` (median, in distances between the eyes), `right_refused`, `wrong_refused`, `ece`,
    and `match_f1_original`, `match_f1_unregistered` of the baselines. Harder pairs are in none but their own.
    What was said of the pairs is read below `model_folder` where it is kept; `numbers` are those of the task's answer.
    """
    of = cases(dataset, split)
    said = said_of(predictor, dataset, split, of, model_folder, numbers)
    rows = [measure.row_of(case, told, case.load()[1]) for case, told in zip(of, said, strict=True)]
    table = _predictions(rows, split)
    return Evaluation.of(
        predictor.bundle,
        dataset,
        split,
        title=task.title,
        metrics=_metrics(table),
        predictions=table,
        tables=_tables(rows),
        figures=_figures(predictor, rows),
        captions=CAPTIONS,
        notes=_notes(predictor.card.split_hashes.get(split), dataset.split_hashes[split], split),
    )


def recount_pairs(predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
    """The metrics of `evaluate_pairs` from its saved predictions; the patients are the dataset's."""
    rows = dataset.split(split).set_index("id").loc[predictions["sample"]]
    return _metrics(predictions.assign(group=rows["group"].to_numpy(str)))


def repeat_pairs(predictor: PairPredictor, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some pairs asked again: id, and every number of the saved predictions.

    Promotion holds an evaluation against it, so the pairs are asked again: nothing that is kept is read here.
    """
    wanted = set(ids)
    of = [case for case in cases(dataset, split) if case.id in wanted]
    table = _predictions(measure.measure_cases(predictor, of, baselines_of(predictor)), split)
    numbers = [name for name in table.columns if name in REPEATED or name.startswith(("original.", "unregistered."))]
    return table.loc[:, ["id", *numbers]]


def _metrics(predictions: pd.DataFrame) -> dict[str, Metric]:
    """All metrics from the saved predictions: what is counted again at promotion is what was counted here."""
    harder = predictions.loc[predictions["kind"] == "harder"]
    table = predictions.loc[predictions["kind"] != "harder"]
    kind = table["kind"]
    found = {
        "match_f1": _f1(table),
        "match_precision": _ratio(table, matching.precision, "n_matched", "n_predicted", "nothing was matched"),
        "match_recall": _ratio(table, matching.recall, "n_matched", "n_true", "there is nothing to match"),
        "state_accuracy": _ratio(table, matching.share, "n_states_correct", "n_states", "no state is known"),
    }
    for name in ("delivered", "generated"):
        of_kind = table.loc[kind == name]
        found[f"match_f1_{name}"] = _f1(of_kind)
        found[f"state_accuracy_{name}"] = _ratio(
            of_kind, matching.share, "n_states_correct", "n_states", "no such pair"
        )
    found["registration_error"] = _registration_error(table)
    found["right_refused"] = _refused(table.loc[kind != "wrong_person"], "no pair of one person")
    found["same_person_refused"] = _refused(table.loc[kind == "same_person"], "no such pair")
    found["wrong_refused"] = _refused(table.loc[kind == "wrong_person"], "no pair of two people")
    found |= _calibration(table)
    for name in BASELINES:
        found[f"match_f1_{name}"] = _f1(table, f"{name}.")
    found["match_f1_harder"] = _f1(harder, APART)
    counted = f"{APART}n_states_correct", f"{APART}n_states"
    found["state_accuracy_harder"] = _ratio(harder, matching.share, *counted, "no such pair")
    found["harder_refused"] = _refused(harder, "no such pair")
    return found


def _f1(table: pd.DataFrame, prefix: str = "") -> Metric:
    """F1 over the pairs of known truth; `prefix` names a baseline."""
    columns = [f"{prefix}{k}" for k in ("n_matched", "n_predicted", "n_true")]
    return _of_known(table, matching.f1, columns, "there is nothing to match")


def _ratio(table: pd.DataFrame, statistic: Statistic, part: str, whole: str, why: str) -> Metric:
    return _of_known(table, statistic, [part, whole], why)


def _of_known(table: pd.DataFrame, statistic: Statistic, columns: Sequence[str], why: str) -> Metric:
    known = table.loc[table[columns[0]].notna()]
    arrays = [known[name].to_numpy(float) for name in columns]
    return measured(statistic, known["group"].to_numpy(str), *arrays, why=why)


def _refused(table: pd.DataFrame, why: str) -> Metric:
    """Share of pairs refused. Its interval is the wider, at either end, of resampled patients and of the exact one:
    where all or none are refused, every resample says the same.
    """
    flags = table["refused"].to_numpy(float)
    metric = measured(matching.share, table["group"].to_numpy(str), flags, np.ones(len(table)), why=why)
    if metric.value is None:
        return metric
    low, high = clopper_pearson(int(flags.sum()), len(flags))
    ends = [end for end in (metric.low, metric.high) if end is not None]
    return Metric(metric.value, min([low, *ends]), max([high, *ends]), metric.n)


def _registration_error(table: pd.DataFrame, column: str = "registration_error") -> Metric:
    """Median over pairs of the mean error at their lesions; a pair that could not be registered is left out."""
    known = table.loc[table[column].notna()]
    if known.empty:
        return undefined(0, "no pair with exactly known places")

    def median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(values)
        heights = np.cumsum(weights[:, order], axis=1)
        return values[order][(heights >= heights[:, -1:] / 2).argmax(axis=1)]

    errors = known[column].to_numpy(float)
    return measured(median, known["group"].to_numpy(str), errors, why="no pair with known places", limits=None)


def _calibration(table: pd.DataFrame) -> dict[str, Metric]:
    said = [
        (group, *match) for group, stored in zip(table["group"], table["confidences"], strict=True)
        for match in json.loads(stored)
    ]  # fmt: skip
    p, y = np.array([c for _, c, _ in said]), np.array([float(right) for _, _, right in said])
    groups = [str(group) for group, _, _ in said]
    error = measured(calibration.ece, groups, p, y, why="nothing was matched")
    chance = calibration.chance_metric(p, y, groups) if said else undefined(0, error.note)
    return {"ece": error, "ece_by_chance": chance}


def _tables(rows: Sequence[measure.PairResult]) -> dict[str, list[Row]]:
    methods = [("ours", ""), ("as the original", "original"), ("overlap alone", "unregistered")]
    states = [s for r in rows for s in r.states if r.case.kind != "harder"]
    columns = [*STATES, "refused"]
    return {
        "methods": [
            {"method": name, "pairs": kind, **_figures_of(of_kind, key)}
            for kind in ("delivered", "generated", "harder")
            if (of_kind := [r for r in rows if r.case.kind == kind])
            for name, key in methods
        ],
        "by_kind": [
            {"kind": kind, **_kind_row(of_kind)}
            for kind in KINDS
            if (of_kind := [r for r in rows if r.case.kind == kind])
        ],
        "by_difficulty": _by_difficulty(rows, "generated"),
        "harder_pairs_by_difficulty": _by_difficulty(rows, "harder"),
        "states": [
            {"truth": true, **{said: sum(s == (true, said) for s in states) for said in columns}} for true in STATES
        ],
        "refusals": [
            {"id": r.case.id, "kind": r.case.kind, "refused": str(r.refused), "reason": r.reason}
            for r in rows
            if r.refused is r.case.is_right
        ][:50],
    }


def _figures_of(rows: Sequence[measure.PairResult], baseline: str = "") -> Row:
    known = [counts for r in rows if (counts := r.baselines.get(baseline) if baseline else r.counts)]
    total = {k: sum(getattr(c, k) for c in known) for k in ("n_matched", "n_predicted", "n_true")}
    metric = _f1(_predictions(rows), f"{baseline}." if baseline else _prefix(rows))
    return {
        "n": len(known),
        "f1": metric.value,
        "low": metric.low,
        "high": metric.high,
        "precision": total["n_matched"] / total["n_predicted"] if total["n_predicted"] else None,
        "recall": total["n_matched"] / total["n_true"] if total["n_true"] else None,
    }


def _kind_row(rows: Sequence[measure.PairResult]) -> Row:
    refused = sum(r.refused for r in rows)
    table, prefix = _predictions(rows), _prefix(rows)
    states = f"{prefix}n_states_correct", f"{prefix}n_states"
    return {
        "n": len(rows),
        "refused": refused,
        "refused_share": refused / len(rows),
        "f1": _f1(table, prefix).value,
        "state_accuracy": _ratio(table, matching.share, *states, "unknown").value,
        "registration_error": _registration_error(table, f"{prefix}registration_error").value,
        "boxes_left_out": sum(r.unknown for r in rows),
    }


def _prefix(rows: Sequence[measure.PairResult]) -> str:
    """Before the columns of pairs of one kind."""
    return APART if rows and rows[0].case.kind == "harder" else ""


def _by_difficulty(rows: Sequence[measure.PairResult], kind: Kind) -> list[Row]:
    made = [r for r in rows if r.case.kind == kind]
    table: list[Row] = []
    for name, (edges, unit) in DIFFICULTIES.items():
        for low, high in itertools.pairwise(edges):
            some = [r for r in made if low <= r.parameters.get(name, -1) < high]
            if some:
                where = f"{low:g} to {high:g}" if high < max(edges) else f"{low:g} and more"
                yes_no = {0: "no", 0.5: "yes"}.get(low, "") if len(edges) == 3 else ""
                figures = {k: v for k, v in _kind_row(some).items() if k not in ("refused_share", "boxes_left_out")}
                table.append({"difficulty": name, "range": yes_no or f"{where} {unit}", **figures})
    return table


def _figures(predictor: PairPredictor, rows: Sequence[measure.PairResult]) -> dict[str, bytes | Sheet]:
    tables = _tables(rows)
    figures: dict[str, bytes | Sheet] = {"methods": methods_figure(tables["methods"])}
    for name in ("by_difficulty", "harder_pairs_by_difficulty"):
        if tables[name]:
            figures[name] = difficulty_figure(tables[name])
    rows = [r for r in rows if r.case.kind != "harder"]  # of which the sheets would be full
    said = [(c, right) for r in rows for c, right in r.confidences]
    if said:
        p, y = np.array([[c] for c, _ in said]), np.array([[float(right)] for _, right in said])
        figures["reliability"] = reliability_figure(p, y, ["match"])
    columns = [*STATES, "refused"]
    counts = np.array([[row[name] for name in columns] for row in tables["states"]] + [[0] * len(columns)])
    figures["states"] = confusion_figure(counts, columns)
    same = [(r.same, r.case.is_right) for r in rows if r.same is not None]
    figures["same_skin"] = same_skin_figure(same, predictor.matcher.numbers.same_threshold)
    worst = sorted((r for r in rows if r.counts and _errors(r.counts)), key=lambda r: -_errors(r.counts))[:FAILURES]
    if worst:
        figures["failures"] = _sheet(worst)
    odd = [r for r in rows if r.refused is r.case.is_right][:FAILURES]
    if odd:
        figures["refusals"] = _sheet(odd)
    return figures


def _errors(counts: Counts | None) -> int:
    assert counts
    return counts.n_predicted + counts.n_true - 2 * counts.n_matched + counts.n_states - counts.n_states_correct


def _sheet(rows: Sequence[measure.PairResult]) -> Sheet:
    pictures, captions = [], []
    for row in rows:
        pictures.append(drawn(row.case, row.said))
        counts = row.counts
        said = (
            f"{counts.n_matched} of {counts.n_true} found, {counts.n_predicted} predicted" if counts else row.case.kind
        )
        same = "" if row.same is None else f"same skin {row.same:.2f}"
        captions.append(f"{row.case.id}\n{'refused' if row.refused else said}\n{same}")
    return Sheet([[picture] for picture in pictures], captions, columns=3, tile=330)


def drawn(case: Case, said: measure.PairAnswer, height: int = 300) -> np.ndarray:
    """A case with what is said of it: lines, colours, wrong matches dashed."""
    pair, truth = case.load()
    matches = [(i, j) for i, j, _ in said.matches]
    wrong = sorted(set(truth.judged(matches)) - set(truth.matches)) if truth else []
    return side_by_side(pair, matches, said.states, height, wrong)


def _predictions(rows: Sequence[measure.PairResult], split: str = "") -> pd.DataFrame:
    """One row a pair; the counts of a pair whose truth is not known are missing, and those of harder pairs stand in
    columns of their own. `confidences`: JSON rows [confidence of a match, whether it is right]."""
    table = []
    for r in rows:
        measured = {k: getattr(r.counts, k) if r.counts else None for k in COUNTS}
        measured["registration_error"] = float(np.mean(r.errors)) if r.errors else None
        own = _prefix([r])
        found = {f"{prefix}{k}": v if prefix == own else None for prefix in ("", APART) for k, v in measured.items()}
        baselines = {
            f"{name}.{k}": getattr(r.baselines[name], k) if name in r.baselines else None
            for name in BASELINES
            for k in ("n_matched", "n_predicted", "n_true")
        }
        table.append(
            {
                "id": r.case.id,
                "sample": r.case.sample,
                "group": r.case.group,
                "split": split,
                "kind": r.case.kind,
                "refused": r.refused,
                "reason": r.reason,
                "same": r.same,
                **found,
                **baselines,
                "confidences": json.dumps(r.confidences),
                "answer.accepted": float(not r.refused),
                "answer": json.dumps(r.answer),
            }
        )
    return pd.DataFrame(table)


def _notes(expected: str | None, here: str, split: str) -> tuple[str, ...]:
    notes = [
        "Generated pairs are made from the photos of this split with exact truth: easier than two real visits in what "
        "the generator does not know (hair that grows, make-up, a head turned in three dimensions)."
    ]
    if split == RECENT:
        return (*notes, GROWS)
    if split != "test":
        notes.append("The numbers were fitted or calibrated on this split: its figures flatter.")
    if expected != here:
        notes.append(f"This is not the {split} split the model was kept apart from ({expected or 'none is named'}).")
    return tuple(notes)
