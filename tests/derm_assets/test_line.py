"""The line as a user runs it: delivered pictures to a champion, and everything that must stop it on the way."""

from __future__ import annotations

import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path

import dagster as dg
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest

from derm_assets import packaging
from derm_assets.automation_settings import RECIPE as RECIPE_TAG
from derm_assets.packaging import ReplayResult
from derm_ml.data.dataset import Dataset, freeze
from derm_ml.evaluation.faithful import HEADS, explained_labels
from derm_ml.evaluation.report import save as save_report
from derm_ml.promotion import CHALLENGER, CHAMPION
from derm_ml.promotion.ledger import Ledger
from derm_ml.registry import get_task
from derm_ml.tree import folder_md5
from serving.released import NotReleased, bento_home, read_release

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
NAME = TASK.name
ARTIFACTS = [artifact.name for artifact in TASK.artifacts]
RECIPE = {"epochs": 3, "batch_size": 8, "workers": 0, "views": "none", "ema": 0.0}  # learns enough to pass the gates
TRAIN = {"ops": {f"{NAME}__model": {"config": {"recipe": {"drawn": RECIPE}}}}}


def run(definitions, instance, verb: str, **options) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def(f"{NAME}_{verb}")
    return job.execute_in_process(instance=instance, raise_on_error=False, **options)


def only(definitions, instance, *nouns: str, **options) -> dg.ExecuteInProcessResult:
    """Materialise some assets by themselves, as a person does in the UI."""
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False, asset_selection=[dg.AssetKey([NAME, n]) for n in nouns], **options
    )


def deliver(places, instance, batch: str, n: int = 75, seed: int = 5) -> Path:
    folder = places.incoming(TASK) / batch
    TASK.draw(folder, n, seed)
    instance.add_dynamic_partitions(f"{NAME}_batches", [batch])
    return folder


def latest(instance, noun: str) -> dict:
    event = instance.get_latest_materialization_event(dg.AssetKey([NAME, noun]))
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def steps(result, kind: str) -> set[str]:
    return {e.step_key.removeprefix(f"{NAME}__") for e in result.all_events if e.event_type_value == kind}


@pytest.fixture
def packaged(monkeypatch):
    """Building and serving a Bento has its own tests; here only what the line does with the answer counts."""
    released, built = [], []
    answer = {"worst": 0.0, "failures": ()}

    def build(task, bundle, version, index):
        assert (index / "index.json").exists()  # the similar images travel with the model
        built.append(version)
        return f"{task}:made-of-{version}-{len(built)}"

    def replay(task, tag, cases):
        cases = list(cases)
        assert all(abs(sum(case.expected.values()) - 1) < 1e-4 for case in cases)
        assert all(case.body[:2] in (b"\xff\xd8", b"\x89P") for case in cases)
        return ReplayResult(tag, len(cases), answer["worst"], answer["failures"], 1.0)

    monkeypatch.setattr("derm_assets.packaging.build_bento", build)
    monkeypatch.setattr("derm_assets.packaging.replay", replay)
    wrote = packaging.release

    def release(task, tag, of):
        released.append(tag)
        stored = bento_home() / "bentos" / tag.replace(":", "/")  # where BentoML keeps what it built
        stored.mkdir(parents=True, exist_ok=True)
        (stored / "bento.yaml").touch()
        return wrote(task, tag, of)

    monkeypatch.setattr("derm_assets.packaging.release", release)
    return released, answer


@pytest.fixture
def predicted(monkeypatch) -> Counter:
    """How often the graph of a bundle was run for each square; the blank one a session is tried with is left out."""
    seen: Counter = Counter()
    run_graph = ort.InferenceSession.run

    def counting(session, outputs, feed, *more):
        seen.update(sha256(square.tobytes()).hexdigest() for square in feed["image"] if np.ptp(square))
        return run_graph(session, outputs, feed, *more)

    monkeypatch.setattr(ort.InferenceSession, "run", counting)
    return seen


def test_from_a_delivered_batch_to_a_released_champion(definitions, instance, places, registry, packaged, predicted):
    """The one test of the whole line on real parts: DVC, training, ONNX, MLflow."""
    deliver(places, instance, "first")
    assert run(definitions, instance, "prepare", partition_key="first").success
    prepared = Path(places.data) / "prepared" / NAME
    version = instance.get_latest_materialization_event(dg.AssetKey([NAME, "dataset"])).asset_materialization
    assert version.tags["dagster/data_version"] == folder_md5(prepared) == Dataset.open(prepared).md5
    assert latest(instance, "incoming_batch")["taken"] == 75

    trained = run(definitions, instance, "retrain", run_config=TRAIN)
    assert trained.success, trained.get_step_failure_events()
    # calibration, input gate, evaluation, heatmaps and three artifacts of embeddings: each image went through the graph
    # once. Registration, which says what a promotion would decide, asked of the test images again; and those whose
    # heatmap is asked about went through the graph with each of the random heads, both times
    n, dataset, model = latest(instance, "evaluation")["n"], Dataset.open(prepared), latest(instance, "model")
    explained = int((explained_labels(dataset.split("test"), TASK.labels) >= 0).sum())
    square = TASK.load(Path(model["path"])).square
    own = {sha256(square(dataset.image(row)).tobytes()).hexdigest() for row in dataset.manifest.to_dict("records")}
    asked = Counter(times for one, times in predicted.items() if one in own)
    assert asked == Counter({1: len(own) - n, 2: n - explained, 2 + 2 * HEADS: explained})
    # changed images: two each for the probes and thirteen for the heatmaps, both times; eight each for the stresses
    changed = sum(times for one, times in predicted.items() if one not in own)
    assert changed == 2 * 2 * n + 2 * 13 * explained + 8 * n
    assert latest(instance, "registered_model")["would_be_promoted"] is True
    assert "there is no champion yet" in latest(instance, "registered_model")["promotion"]
    told = [e for e in trained.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    assert len(told) == RECIPE["epochs"]  # told while the training went on
    assert {"auc_mean", "train_loss"} <= set(told[0].asset_observation_data.asset_observation.metadata)
    evaluation = latest(instance, "evaluation")
    assert Path(model["path"]).is_relative_to(Path(places.out) / NAME)
    assert isinstance(evaluation["auc_mean"], float)
    assert next(iter(evaluation)) == "verdict"  # what a person looks for first
    assert evaluation["verdict"].startswith(f"Mean AUC {evaluation['auc_mean']:.3f} (95 % ")
    assert "**intended use**: Research on" in latest(instance, "registered_model")["model_card"]
    assert (Path(evaluation["path"]) / "report.html").stat().st_size > 10_000
    assert "Reaches the floor" in (Path(evaluation["path"]) / "report.html").read_text()
    assert {"confusion_matrix", "roc"} <= {name.split("_curve")[0] for name in evaluation}
    shown = [v for noun in ("dataset", "model", "evaluation", *ARTIFACTS) for v in latest(instance, noun).values()]
    pictures = [v for v in shown if isinstance(v, str) and v.startswith("![](data:image/png;base64,")]
    assert len(pictures) >= 9
    assert isinstance(latest(instance, "embeddings")["silhouette"], float)
    assert all(len(text) < 200_000 for text in pictures)
    history = registry.client.get_metric_history(registry.run_of(TASK, Path(model["path"])).id, "train_loss")
    assert [point.step for point in history] == [1, 2, 3]

    released, answer = packaged
    answer.update(worst=0.5, failures=("ISIC_1: a probability differs by 0.5",))
    refused = run(definitions, instance, "promote")
    assert not refused.success  # the blocking check endpoint_reproduces_evaluation
    assert not released
    answer.update(worst=0.0, failures=())
    assert run(definitions, instance, "promote").success  # promoting the champion again is no contradiction
    assert released == [f"{NAME}:made-of-1-2"]
    assert registry.version(TASK, CHAMPION).number == registry.version(TASK, CHALLENGER).number == 1
    assert [entry["event"] for entry in Ledger(places.ledger(TASK)).entries()] == ["promoting", "promoted"]

    assert run(definitions, instance, "promote").success
    assert released == [f"{NAME}:made-of-1-2"] * 2  # released once more, no second one is built
    assert latest(instance, "bento")["built"] is False

    # what automation launches: the champion's recipe and the same data
    again = only(definitions, instance, "model", "registered_model", tags={RECIPE_TAG: "champion"})
    assert again.success
    assert not [e for e in again.all_events if e.event_type_value == "ASSET_OBSERVATION"]  # nothing is trained twice
    assert registry.version(TASK, CHALLENGER).number == 1


def test_a_duplicate_across_splits_stops_the_line_before_training(definitions, instance, places):
    """An image known from training would make the test figures look better than they are; here nobody takes it out."""
    raw = places.raw(TASK) / "leaky"
    TASK.draw(raw, 45, seed=5)
    settings = Path(places.data).parent / "params.yaml"
    settings.write_text(f"tasks: {{{NAME}: {{duplicates: stop}}}}\n")
    test_image = sorted((raw / "ISIC-2017_Test_Data").glob("*.jpg"))[0]
    shutil.copyfile(test_image, raw / "ISIC-2017_Training_Data" / "ISIC_9999999.jpg")
    with (raw / "ISIC-2017_Training_Part3_GroundTruth.csv").open("a") as file:
        file.write("ISIC_9999999,1.0,0.0\n")
    trained = run(definitions, instance, "retrain", run_config=TRAIN)
    assert not trained.success
    failed = {
        e.asset_check_evaluation_data.check_name
        for e in trained.all_events
        if e.event_type_value == "ASSET_CHECK_EVALUATION" and not e.asset_check_evaluation_data.passed
    }
    assert "no_duplicates_across_splits" in failed
    assert "model" not in steps(trained, "STEP_START")
    # the dataset is there to be looked at, with the account that a terminal prints
    shown = instance.get_latest_materialization_event(dg.AssetKey([NAME, "dataset"])).asset_materialization.metadata
    labels = [record.data for record in shown["images_by_label"].records]
    assert {row["publisher"] for row in labels} == set(TASK.labels)
    assert sum(int(row[split]) for row in labels for split in ("train", "validation", "test")) == 46
    assert {record.data["fate"] for record in shown["files_by_fate"].records} == {"read", "no image"}
    assert any("used image_id, melanoma" in line for line in shown["columns"].data)
    assert not list((Path(places.out) / NAME).glob("drawn-*"))


def test_a_red_check_stops_assets_materialised_one_by_one(definitions, instance, places, registry, packaged):
    """Each by itself, days later: a patient in train and test became a champion, the check being red in another run."""
    deliver(places, instance, "crossing", n=45)
    assert run(definitions, instance, "prepare", partition_key="crossing").success
    prepared = places.prepared(TASK)
    table = pd.read_parquet(prepared / "manifest.parquet")
    for split in ("train", "test"):
        table.loc[table.index[table["split"] == split][0], ["patient", "source"]] = ["p1", "hospital"]
    (prepared / "manifest.parquet").unlink()
    table.to_parquet(prepared / "manifest.parquet", index=False)
    dataset = Dataset.open(prepared)
    frozen = freeze(prepared, places.version(TASK, dataset.md5))
    red = dg.AssetMaterialization(
        dg.AssetKey([NAME, "dataset"]), metadata={"path": dg.MetadataValue.path(frozen)},
        tags={"dagster/data_version": dataset.md5},
    )  # fmt: skip
    instance.report_runless_asset_event(red)

    trained = only(definitions, instance, "model", run_config=TRAIN)
    assert "patients_do_not_cross_splits" in failure(trained)
    assert not list((Path(places.out) / NAME).glob("drawn-*"))

    out = Path(places.out) / NAME / "by_hand"  # trained by somebody else, past Dagster
    bundle = TASK.fit(dataset, TASK.recipe("drawn", **RECIPE), out)
    save_report(TASK.evaluate(TASK.load(bundle), dataset), out / "evaluation_test")
    registry.register(TASK, bundle, out / "evaluation_test")
    promoted = only(definitions, instance, "promoted_model")
    assert "a blocking data check fails: patients_do_not_cross_splits" in failure(promoted)
    assert registry.alias(TASK, CHAMPION) is None


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    return result.get_step_failure_events()[0].event_specific_data.error.to_string()


def test_a_rollback_releases_the_earlier_service(
    definitions, instance, places, promotions, packaged, colour_models, tinted_dataset
):
    """A rollback that leaves the harmful model's service released has rolled nothing back."""
    released, _ = packaged
    tags = []
    for name in ("fair", "good"):
        folder = Path(places.out) / NAME / name
        shutil.copytree(colour_models[name], folder)
        freeze(tinted_dataset.path, places.version(TASK, tinted_dataset.md5))
        assert promotions.promote(TASK, folder / "bundle").promote
        assert only(definitions, instance, "bento").success
        tags.append(released[-1])
    said = promotions.rollback(TASK, "false alarms")
    assert f"{tags[0]} is released again: a running service takes it" in said
    assert read_release(NAME) == tags[0]
    assert only(definitions, instance, "bento").success  # and so does the asset, without building
    assert released[-1] == tags[0]
    promotions.rollback(TASK, "all wrong", leave_empty=True)
    with pytest.raises(NotReleased, match="was withdrawn with its model"):
        read_release(NAME)


def test_a_delivery_during_a_training_does_not_make_its_evaluation_fail(definitions, instance, places):
    """Days of training were lost to "the dataset is now …": a model is measured beside what it was trained with."""
    TASK.draw(places.raw(TASK) / "first", 60, seed=5)
    short = {"ops": {f"{NAME}__model": {"config": {"recipe": {"drawn": RECIPE | {"epochs": 1}}}}}}
    assert only(definitions, instance, "dataset", "model", run_config=short).success
    before = latest(instance, "dataset")
    deliver(places, instance, "meanwhile", n=6, seed=9)
    assert run(definitions, instance, "prepare", partition_key="meanwhile").success
    assert latest(instance, "dataset")["images"] == before["images"] + 6

    measured = only(definitions, instance, "evaluation", "heatmaps")
    assert measured.success, measured.get_step_failure_events()
    assert latest(instance, "evaluation")["split_hash"] == before["test_split_hash"]
    assert latest(instance, "evaluation")["n"] == 12

    shutil.rmtree(places.version(TASK, latest(instance, "model")["dataset_md5"]))
    gone = only(definitions, instance, "evaluation")
    reason = gone.get_step_failure_events()[0].event_specific_data.error.to_string()
    assert f"measured on no other; materialise {NAME}/dataset and {NAME}/model again" in reason


def test_a_step_without_its_upstream_says_what_to_do(definitions, instance):
    result = only(definitions, instance, "evaluation")
    reason = result.get_step_failure_events()[0].event_specific_data.error.to_string()
    assert f"{NAME}/model was never materialised in this Dagster instance: materialise it first" in reason


def test_promotion_alone_fails_without_a_challenger(definitions, instance):
    result = run(definitions, instance, "promote")
    assert not result.success
    assert "bento" not in steps(result, "STEP_START")
