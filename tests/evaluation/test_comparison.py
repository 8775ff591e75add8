"""Runs side by side: a difference that is luck must not be told as a difference, nor runs on other cases compared."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import expit
from typer.testing import CliRunner

from derm_ml import DermError, cli
from derm_ml.evaluation.comparison import (
    ComparisonError,
    MeasuredModel,
    compare,
    named_apart,
    others_of,
    primary_difference,
    read_run,
)
from derm_ml.evaluation.comparison_report import difference_figure
from derm_ml.evaluation.comparison_report import save as save_comparison
from derm_ml.evaluation.isic import LABELS as SCORED
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import save as save_report
from derm_ml.metrics.classification import mean_roc_auc, roc_auc
from derm_ml.metrics.intervals import REACH, paired_difference, weighted_mean
from derm_ml.metrics.intervals import measured as measured_of
from derm_ml.metrics.matching import f1
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.screening import partial_auc
from derm_ml.promotion import ModelVersion
from derm_ml.promotion.decision import weigh
from derm_ml.promotion.evidence import Evidence
from derm_ml.registry import all_tasks, get_task

pytestmark = pytest.mark.slow  # computes for long

N = 400
TASK = get_task("malignancy_screening")


def measured(noise: float, seed: int = 0, version: str = "v1", threshold: float = 0.3, **more) -> Evaluation:
    """A screening evaluation whose scores are the truth under `noise`; the same cases whatever the noise."""
    truth = np.random.default_rng(99)
    y = (truth.random(N) < 0.3).astype(float)
    signal = truth.normal(size=N) + 1.6 * y
    logits = signal + noise * np.random.default_rng(seed).normal(size=N)
    p = expit(logits - 1.5)
    groups = np.array([f"patient {i // 2}" for i in range(N)])
    table = pd.DataFrame(
        {"id": [f"case {i}" for i in range(N)], "group": groups, "split": "test", "target.malignant": y,
         "p.malignant": p, "logit.malignant": logits}
    )  # fmt: skip
    fields = {
        "task": "malignancy_screening", "title": "Benign or malignant", "model_version": version, "recipe_name": "r",
        "recipe": {}, "git_commit": "c", "dataset_md5": "m.dir", "split": "test", "split_hash": "abc", "n": N,
        "n_patients": N // 2, "labels": ("malignant",), "metrics": {"auc_malignant": roc_auc(p, y, groups)},
        "predictions": table,
        "tables": {"operating_points": [
            {"point": "recall_0.95", "threshold": threshold}, {"point": "recall_0.999", "threshold": None}
        ]},
    }  # fmt: skip
    return Evaluation(**{**fields, **more})


def test_a_better_model_is_told_apart_and_a_copy_is_not():
    good, bad = measured(0.1, version="good"), measured(2.5, version="bad")
    rows = {r.metric: r for r in compare((MeasuredModel("bad", bad), MeasuredModel("good", good)), TASK).rows}
    area = rows["auc_malignant"]
    assert next(iter(rows)) == "auc_malignant"
    assert area.value == pytest.approx(good.value("auc_malignant"))
    assert area.difference.low > 0
    assert area.delong.low > 0
    assert area.verdict == "better"
    assert rows["brier"].difference.value < 0
    assert rows["brier"].verdict == "better"  # less is better
    point = rows["sensitivity_malignant_at_recall_0.95"]
    table = good.predictions[good.predictions["target.malignant"] == 1]
    assert point.value == pytest.approx((table["p.malignant"] >= 0.3).mean())
    assert {"partial_auc_malignant", "specificity_malignant_at_recall_0.99_of_the_curve"} <= set(rows)
    assert not any("0.999" in name for name in rows)  # a point without a threshold, a recall without a miss
    end = rows["specificity_malignant_at_recall_0.99_less_that_at_0.9_of_the_curve"].difference.value
    gains = [rows[f"specificity_malignant_at_recall_{r}_of_the_curve"].difference.value for r in (0.99, 0.9)]
    assert end == pytest.approx(gains[0] - gains[1])
    assert "precision_malignant_at_recall_0.99_of_the_curve" in rows
    copies = compare((MeasuredModel("a", good), MeasuredModel("b", replace(good))), TASK)
    assert {row.verdict for row in copies.rows} == {"no difference shown"}


def test_order_of_the_rows_of_a_table_does_not_matter():
    good, bad = measured(0.1), measured(2.5)
    shuffled = replace(good, predictions=good.predictions.sample(frac=1, random_state=1))
    first, second = (compare((MeasuredModel("a", bad), MeasuredModel("b", e)), TASK).rows for e in (good, shuffled))
    assert [row.plain() for row in first] == [row.plain() for row in second]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"split_hash": "other"}, "split hash abc against other"),
        ({"split": "validation"}, "split test against validation"),
        ({"task": "retinal_findings"}, "task malignancy_screening against retinal_findings"),
    ],
)
def test_runs_on_other_cases_are_refused(change, sentence):
    with pytest.raises(ComparisonError, match=sentence):
        compare((MeasuredModel("a", measured(0.1)), MeasuredModel("b", replace(measured(0.2), **change))), TASK)


def test_runs_against_other_labels_or_with_missing_cases_are_refused():
    a, b = measured(0.1), measured(0.2)
    other = b.predictions.copy()
    other.loc[3, "target.malignant"] = 1 - other.loc[3, "target.malignant"]
    with pytest.raises(ComparisonError, match="measured against other labels"):
        compare((MeasuredModel("a", a), MeasuredModel("b", replace(b, predictions=other))), TASK)
    with pytest.raises(ComparisonError, match="predictions of other cases"):
        compare((MeasuredModel("a", a), MeasuredModel("b", replace(b, predictions=b.predictions.iloc[1:]))), TASK)
    with pytest.raises(ComparisonError, match="two runs at least"):
        compare((MeasuredModel("a", a),), TASK)


def test_a_task_without_probabilities_is_compared_by_its_values_of_each_case():
    """A segmenter's Dice of each picture: the column is named like the metric, and its mean is the metric."""

    def segmenter(shift: float) -> Evaluation:
        rng = np.random.default_rng(5)
        dice = np.clip(rng.normal(0.8, 0.1, N) + shift + rng.normal(0, 0.01, N), 0, 1)
        table = measured(1).predictions[["id", "group", "split"]].assign(dice=dice, area=rng.random(N))
        metrics = {"dice": Metric(float(dice.mean()), 0.0, 1.0, N), "area": Metric(0.9, 0.0, 1.0, N)}
        return measured(
            1, task="lesion_segmentation", labels=("lesion",), predictions=table, metrics=metrics, tables={}
        )

    rows = compare(
        (MeasuredModel("a", segmenter(0)), MeasuredModel("b", segmenter(-0.05))),
        SimpleNamespace(primary_metric="dice", ratios={}),
    ).rows
    assert [row.metric for row in rows] == ["dice"]  # `area` is not the mean of its column: not what was measured
    assert rows[0].verdict == "worse"
    assert rows[0].difference.value == pytest.approx(-0.05, abs=0.005)


def test_a_ratio_of_counts_over_all_cases_is_compared_too():
    """F1 of matched lesions: its parts are counts of each pair, not means; unknown pairs count nowhere."""
    task = SimpleNamespace(
        primary_metric="match_f1", ratios={"match_f1": ({"n_matched": 2}, {"n_predicted": 1, "n_true": 1})}
    )

    def matcher(chance: float, claimed: float | None = None) -> Evaluation:
        rng = np.random.default_rng(7)
        there = rng.integers(1, 9, N).astype(float)
        there[0] = np.nan
        right = np.floor(there * chance)
        table = (
            measured(1).predictions[["id", "group", "split"]].assign(n_matched=right, n_predicted=there, n_true=there)
        )
        f1 = 2 * np.nansum(right) / (2 * np.nansum(there)) if claimed is None else claimed
        metrics = {"match_f1": Metric(float(f1), 0.0, 1.0, N)}
        return measured(1, labels=(), predictions=table, metrics=metrics, tables={})

    (row,) = compare((MeasuredModel("a", matcher(0.6)), MeasuredModel("b", matcher(0.9))), task).rows
    assert row.value == pytest.approx(matcher(0.9).value("match_f1"))
    assert row.verdict == "better"
    with pytest.raises(ComparisonError, match="no metric"):  # the saved counts are not those of the metric
        compare((MeasuredModel("a", matcher(0.6)), MeasuredModel("b", matcher(0.9, claimed=0.1))), task)


def test_the_paired_difference_of_promotion_is_that_of_the_table():
    good, bad = measured(0.1), measured(2.5)
    difference = primary_difference(good, bad, TASK)
    assert difference.value == pytest.approx(good.value("auc_malignant") - bad.value("auc_malignant"))
    other = SimpleNamespace(primary_metric="f1", ratios={})
    assert primary_difference(good, bad, other) is None
    empty = measured(1, labels=(), metrics={}, tables={})
    assert primary_difference(empty, empty, other) is None


@pytest.fixture
def models(tmp_path):
    for name, noise in (("plain", 1.5), ("augmented", 0.6), ("strong", 0.1)):
        save_report(measured(noise, version=name), tmp_path / "out" / name / "evaluation_test")
    save_report(measured(0.1, version="older", split_hash="older"), tmp_path / "out" / "older" / "evaluation_test")
    return tmp_path / "out"


def test_a_saved_comparison_is_a_table_a_figure_and_its_origin(models, tmp_path):
    runs = named_apart([read_run(models / name) for name in ("plain", "augmented", "strong")])
    folder = save_comparison(compare(runs, TASK), TASK, tmp_path / "c")
    stored = json.loads((folder / "comparison.json").read_text())
    assert [run["model_version"] for run in stored["runs"]] == ["plain", "augmented", "strong"]
    assert stored["split_hash"] == "abc"
    assert "would look significant by chance" in stored["by_chance"]
    table = pd.read_csv(folder / "comparison.csv")
    assert list(table["run"][:2]) == ["augmented", "strong"]
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_others_are_those_on_the_same_split_best_first(models):
    current = read_run(models / "augmented" / "bundle")
    assert [run.name for run in others_of(current, models, "auc_malignant", 9)] == ["strong", "plain"]
    assert [run.name for run in others_of(current, models, "auc_malignant", 1)] == ["strong"]


def test_a_damaged_neighbour_does_not_take_the_comparison_down(models):
    (models / "plain" / "evaluation_test" / "evaluation.json").write_text('{"split_ha')
    (models / "older" / "evaluation_test" / "predictions.parquet").unlink(missing_ok=True)
    noted = []
    current = read_run(models / "augmented")
    assert [run.name for run in others_of(current, models, "auc_malignant", 9, noted.append)] == ["strong"]
    assert len(noted) == 1  # a damaged file on another split is nobody's concern here
    assert "plain" in noted[0]


def test_delong_s_refusal_leaves_the_bootstrap_and_what_is_dropped_says_why(monkeypatch):
    """With one positive DeLong's test has no variance; the row must not vanish without a word."""

    def refuse(*_):
        raise ValueError("DeLong's test needs two positives")

    monkeypatch.setattr("derm_ml.evaluation.comparison.delong_difference", refuse)
    rows = {
        r.metric: r for r in compare((MeasuredModel("a", measured(2.5)), MeasuredModel("b", measured(0.1))), TASK).rows
    }
    area = rows["auc_malignant"]
    assert (area.verdict, area.delong, area.remark) == ("better", None, "DeLong's test needs two positives")

    def undefined(statistic, groups, a, b, *arrays):
        if statistic is partial_auc:
            raise ValueError("the difference is undefined in most resamples")
        return paired_difference(statistic, groups, a, b, *arrays)

    monkeypatch.setattr("derm_ml.evaluation.comparison.paired_difference", undefined)
    comparison = compare((MeasuredModel("a", measured(2.5)), MeasuredModel("b", measured(0.1))), TASK)
    dropped = next(r for r in comparison.rows if r.metric == "partial_auc_malignant")
    assert (dropped.verdict, dropped.remark) == ("not evaluable", "the difference is undefined in most resamples")
    assert dropped.plain()["difference"] is None
    n = len(comparison.rows) - 1
    assert comparison.by_chance.startswith(f"With {n} comparisons, about {n / 20:.1f} would look significant by chance")
    assert difference_figure(comparison).startswith(b"\x89PNG")


def test_derm_compare_prints_one_table_and_writes_it(models, tmp_path):
    arguments = ["compare", "malignancy_screening", str(models / "plain"), str(models / "strong")]
    result = CliRunner().invoke(cli.app, [*arguments, "--into", str(tmp_path / "into")])
    assert result.exit_code == 0, result.output
    assert "AUC of malignant" in result.stdout
    assert "better" in result.stdout
    assert (tmp_path / "into" / "comparison.csv").is_file()
    assert result.stdout.rstrip().endswith("comparison.html")
    wrong = CliRunner().invoke(
        cli.app, ["compare", "malignancy_screening", str(models / "plain"), str(models / "older")]
    )
    assert isinstance(wrong.exception, DermError)
    assert "not measured on the same cases" in str(wrong.exception)
    missing = CliRunner().invoke(cli.app, ["compare", "malignancy_screening", str(models / "plain"), str(tmp_path)])
    assert "run `derm evaluate`" in str(missing.exception)


def test_promotion_refuses_a_model_that_is_better_by_luck(tmp_path, monkeypatch):
    """Two networks of the same worth: one has the higher AUC on these patients, and that proves nothing."""
    champion = measured(1.5, version="champion")
    area = champion.value("auc_malignant")
    lucky = next(e for e in (measured(1.5, seed) for seed in range(1, 50)) if e.value("auc_malignant") > area)
    held = {}
    for name, evaluation in {"champion": champion, "lucky": lucky, "better": measured(0.1)}.items():
        folder = save_report(evaluation, tmp_path / name)
        value = evaluation.value("auc_malignant")
        held[name] = Evidence(name, "r", "m.dir", "abc", "sha", N, value, value, value, folder=str(folder))
    monkeypatch.setattr("derm_ml.promotion.decision._champion_on", lambda *_: held["champion"])
    current = ModelVersion(1, Path("champion"), Path("champion"))
    nothing_tried = SimpleNamespace(trial=lambda *_: Path("nowhere"))
    refused, promoted = (weigh(TASK, held[name], current, nothing_tried) for name in ("lucky", "better"))
    assert not refused.promote
    assert "the paired 95 % interval of AUC of malignant" in refused.reasons[0]
    assert promoted.promote
    assert "paired 95 % interval +" in promoted.reasons[0]


@pytest.mark.slow
def test_the_asset_shows_the_current_model_beside_the_others(models, tmp_path):
    """As Dagster runs it: with its config form, its resources and what it knows of the last evaluation."""
    import dagster as dg

    from derm_assets.assets import line
    from derm_assets.resources.data_store import DataStore
    from derm_assets.resources.model_registry import ModelRegistry
    from derm_assets.resources.places import Places
    from derm_assets.resources.trainer import Trainer

    (tmp_path / "root").mkdir()
    models.rename(tmp_path / "root" / TASK.name)
    places = Places(data=str(tmp_path), out=str(tmp_path / "root"), home=str(tmp_path))
    resources = {"places": places, "store": DataStore(places=places), "trainer": Trainer(),
                 "registry": ModelRegistry(places=places)}  # fmt: skip
    definitions = dg.Definitions.merge(line(TASK), dg.Definitions(resources=resources, executor=dg.in_process_executor))
    job = definitions.resolve_implicit_global_asset_job_def()

    def compared(current: str, runs: list[str]) -> dict:
        evaluation = tmp_path / "root" / TASK.name / current / "evaluation_test"
        known = dg.AssetMaterialization([TASK.name, "evaluation"], metadata={"path": dg.MetadataValue.path(evaluation)})
        instance.report_runless_asset_event(known)
        config = {"ops": {f"{TASK.name}__comparison": {"config": {"runs": runs}}}} if runs else {}
        key = dg.AssetKey([TASK.name, "comparison"])
        assert job.execute_in_process(instance=instance, asset_selection=[key], run_config=config).success
        event = instance.get_latest_materialization_event(key).asset_materialization
        return {name: value.value for name, value in event.metadata.items()}

    def rows_of(metadata):
        return {(record.data["metric"], record.data["run"]) for record in metadata["table"].records}

    with dg.instance_for_test() as instance:
        shown = compared("strong", [])
        assert shown["compared"] == 2
        assert ("auc_malignant", "augmented") in rows_of(shown)
        assert shown["differences"].startswith("![](data:image/png;base64,")
        assert shown["report"] == f"/reports/{TASK.name}/comparison/comparison.html"
        assert (tmp_path / "root" / TASK.name / "comparison" / "comparison.html").is_file()
        chosen = compared("strong", [str(tmp_path / "root" / TASK.name / "plain")])
        assert chosen["compared"] == 1
        assert "augmented" not in {run for _, run in rows_of(chosen)}
        assert compared("older", [])["compared"] == 0


def drawn_for(name: str, noise: float, version: str) -> Evaluation:
    """An evaluation with the columns of that task's predictions and its primary metric, worse the more `noise`."""
    task, truth, rng = get_task(name), np.random.default_rng(5), np.random.default_rng(int(10 * noise))
    groups = np.array([f"patient {i // 2}" for i in range(N)])
    table, metrics = pd.DataFrame({"id": [f"case {i}" for i in range(N)], "group": groups, "split": "test"}), {}
    if name == "lesion_segmentation":
        table["dice"] = np.clip(0.9 - noise * 0.1 * truth.random(N) - 0.05 * rng.random(N), 0, 1)
        metrics["dice"] = measured_of(weighted_mean, groups, table["dice"].to_numpy(), why="")
    elif name == "persistent_conditions":
        table["n_true"] = truth.integers(1, 9, N).astype(float)
        table["n_predicted"] = table["n_true"]
        table["n_matched"] = np.maximum(0, table["n_true"] - rng.poisson(noise, N))
        counts = [table[c].to_numpy() for c in ("n_matched", "n_predicted", "n_true")]
        metrics["match_f1"] = measured_of(f1, groups, *counts, why="")
    else:
        for k, label in enumerate(task.labels):
            y = (truth.random(N) < 0.3).astype(float)
            p = expit(truth.normal(size=N) + 1.5 * y + noise * rng.normal(size=N))
            if k == 1:
                y[:50] = np.nan  # a finding that some data sets did not look for
            table[f"target.{label}"], table[f"p.{label}"] = y, p
            metrics[f"auc_{label}"] = roc_auc(p, y, groups)
        scored = SCORED if name == "lesion_classification" else task.labels
        metrics = {f"auc_{label}": metrics[f"auc_{label}"] for label in scored}
        columns = [table[[f"{kind}.{label}" for label in scored]].to_numpy() for kind in ("p", "target")]
        if len(scored) > 1:
            metrics = {"auc_mean": mean_roc_auc(*columns, groups), **metrics}
    return measured(0.1, version=version, task=name, labels=task.labels, metrics=metrics, predictions=table, tables={})


@pytest.mark.parametrize("name", all_tasks())
def test_every_task_has_the_paired_difference_its_policy_asks_for(name):
    """A task whose primary metric cannot be counted again from the predictions would never promote a second model."""
    task = get_task(name)
    better, worse = drawn_for(name, 0.3, "better"), drawn_for(name, 1.5, "worse")
    found = primary_difference(better, worse, task)
    assert found.value == pytest.approx(better.value(task.primary_metric) - worse.value(task.primary_metric))
    assert found.low > 0
    assert found.groups == N // 2
    wider = primary_difference(better, worse, task, reach=2 * REACH)
    assert found.value - wider.low == pytest.approx(2 * (found.value - found.low))
    stated = yaml.safe_load((files(f"derm_ml.tasks.{name}") / "policy.yaml").read_text())
    assert ("superiority" in stated) != ("worse_by" in stated)
    assert "patients" in stated
