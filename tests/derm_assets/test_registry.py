"""The model registry on a real (sqlite) MLflow: what is registered is what was trained, whatever happens in between."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from derm_assets.resources.model_registry import RegistryError, evaluation_of, open_registry
from derm_ml import DermError
from derm_ml.bundle import MODEL, WEIGHTS, Bundle, BundleCard, BundleError, Preprocessing, seal, writing_bundle
from derm_ml.dataset import Dataset
from derm_ml.evaluation import Evaluation, EvaluationError, Metric
from derm_ml.ledger import Ledger
from derm_ml.progress import EpochReport
from derm_ml.promotion import CHALLENGER, CHAMPION, PREVIOUS, Evidence
from derm_ml.records import SPLITS
from derm_ml.registry import get_task
from derm_ml.splits import split_hash

TASK = get_task("lesion_classification")
IDS = [f"case{n}" for n in range(40)]
HASH = split_hash(dict.fromkeys(IDS, "test"), "test")


def model(tmp_path, name: str, auc: float, low: float = 0.55, dataset_md5: str = "0" * 32 + ".dir") -> Path:
    """A model folder with a bundle (promotion never runs the graph) and an evaluation whose mean AUC is `auc`."""
    bundle = tmp_path / name / "bundle"
    card = BundleCard(
        task=TASK.name, recipe_name="drawn", recipe={}, labels=TASK.labels, head="softmax",
        preprocessing=Preprocessing(side=32, store_side=512), dataset_md5=dataset_md5,
        split_hashes={"validation": "v", "test": HASH}, backbone="none", pretrained="none", epochs=1,
    )  # fmt: skip
    with writing_bundle(bundle) as folder:
        for file in (MODEL, WEIGHTS):
            (folder / file).write_text(f"{name} {file}")
        seal(folder, card)
    predictions = pd.DataFrame({"id": IDS, **{f"p.{label}": 1 / 3 for label in card.labels}})
    Evaluation(
        task=TASK.name, title=TASK.title, model_version=Bundle.open(bundle).version, recipe_name="drawn", recipe={},
        git_commit="c0ffee", dataset_md5=card.dataset_md5, split="test", split_hash=HASH, n=40, n_patients=40,
        labels=card.labels, predictions=predictions,
        metrics={"auc_mean": Metric(auc, low, 0.99, 40), "ece": Metric(0.05, 0.01, 0.09, 40)},
    ).save(evaluation_of(bundle))  # fmt: skip
    return bundle


def register(registry, bundle):
    return registry.register(TASK, bundle, evaluation_of(bundle))


def test_what_is_stored_is_what_was_trained(registry, tmp_path):
    bundle = model(tmp_path, "a", 0.9)
    version = register(registry, bundle)
    assert Bundle.open(version.bundle).card == Bundle.open(bundle).card
    assert registry.version(TASK, CHALLENGER) == version
    stored = registry.client.get_model_version(TASK.name, "1")
    assert stored.tags["dataset_md5"] == Bundle.open(bundle).card.dataset_md5
    assert stored.tags["model_version"] == Bundle.open(bundle).version


def test_nothing_stored_is_a_pickle(registry, tmp_path):
    """Whoever loads a bundle from the registry must not run code that came with it."""
    version = register(registry, model(tmp_path, "a", 0.9))
    stored = {p.suffix for p in version.bundle.parent.rglob("*") if p.is_file()}
    assert stored <= {".json", ".onnx", ".safetensors", ".parquet", ".csv", ".html", ".png"}


def test_registering_again_is_the_same_version(registry, tmp_path):
    """A step that was killed and is run again must not litter the registry."""
    bundle = model(tmp_path, "a", 0.9)
    assert [register(registry, bundle).number for _ in range(3)] == [1, 1, 1]


def test_bytes_that_never_arrived_get_no_alias(registry, tmp_path, monkeypatch):
    bundle = model(tmp_path, "a", 0.9)
    sent = type(registry.client).log_artifacts

    def damaged(self, run_id, folder, name):
        sent(self, run_id, folder, name)
        for path in tmp_path.rglob(f"artifacts/**/{MODEL}"):
            path.write_bytes(b"cut short")

    with monkeypatch.context() as broken:
        broken.setattr(type(registry.client), "log_artifacts", damaged)
        with pytest.raises(BundleError):
            register(registry, bundle)
    assert registry.version(TASK, CHALLENGER) is None
    assert register(registry, bundle).number == 1  # and a second try converges


def test_promotion_moves_the_aliases_and_rollback_moves_them_back(registry, tmp_path, places):
    first, second = model(tmp_path, "a", 0.80), model(tmp_path, "b", 0.90)
    assert registry.promote(TASK, first).promote
    assert registry.promote(TASK, second).promote
    assert (registry.version(TASK, CHAMPION).number, registry.version(TASK, PREVIOUS).number) == (2, 1)
    assert registry.rollback(TASK) == f"version 1 is the champion of {TASK.name} again"
    assert (registry.version(TASK, CHAMPION).number, registry.version(TASK, PREVIOUS).number) == (1, 2)
    written = [entry["event"] for entry in Ledger(places.ledger(TASK)).entries()]
    assert written == ["promoting", "promoted", "promoting", "promoted", "rolling_back", "rolled_back"]


@pytest.mark.parametrize(("auc", "low", "why"), [(0.80, 0.55, "does not exceed"), (0.9, 0.4, "blocking gate is red")])
def test_a_worse_model_or_a_red_gate_does_not_become_champion(registry, tmp_path, auc, low, why):
    registry.promote(TASK, model(tmp_path, "a", 0.80))
    decision = registry.promote(TASK, model(tmp_path, "b", auc, low=low))
    assert not decision.promote
    assert any(why in reason for reason in decision.reasons)
    assert registry.version(TASK, CHAMPION).number == 1


def test_a_newer_evaluation_of_the_same_bundle_is_the_one_that_is_judged(registry, tmp_path, places):
    """Measured again after a fault was found in the first measurement: the old numbers must not promote it."""
    bundle = model(tmp_path, "a", 0.9)
    register(registry, bundle)
    measured = Evaluation.load(evaluation_of(bundle))
    replace(measured, metrics=measured.metrics | {"auc_mean": Metric(0.55, 0.4, 0.7, 40)}).save(evaluation_of(bundle))
    version = register(registry, bundle)
    assert version.number == 2
    assert registry.version(TASK, CHALLENGER) == version
    decision = registry.promote_version(TASK, version)
    assert not decision.promote
    assert Ledger(places.ledger(TASK)).entries()[-1]["evidence"]["value"] == 0.55


def prepared_now(places, dataset: Dataset, change) -> str:
    """The dataset lies there as a version, and its manifest, changed, as what is prepared now; the md5 of that."""
    shutil.copytree(dataset.path, places.version(TASK, dataset.md5))
    folder = Path(shutil.copytree(dataset.path, places.prepared(TASK)))
    table = change(dataset.manifest.copy())
    table.to_parquet(folder / "manifest.parquet", index=False)
    splits = dict(zip(table["id"], table["split"], strict=True))
    info = dataset.info | {"split_hashes": {split: split_hash(splits, split) for split in SPLITS}}
    (folder / "dataset.json").write_text(json.dumps(info))
    return Dataset.open(folder).md5


@pytest.fixture
def measured(trained, drawn_dataset, tmp_path) -> Path:
    """The bundle of a trained model beside its evaluation on the data it was trained with."""
    folder = Path(shutil.copytree(trained, tmp_path / "measured"))
    TASK.evaluate(TASK.load(folder / "bundle"), drawn_dataset).save(evaluation_of(folder / "bundle"))
    return folder / "bundle"


def test_a_model_of_older_data_is_judged_on_the_present_test_split(registry, places, measured, drawn_dataset):
    """Data arrived between training and promotion: the old test split is no longer what the champion has to face."""
    first = drawn_dataset.split("test").index[0]
    now = prepared_now(places, drawn_dataset, lambda table: table.drop(first))
    registry.promote(TASK, measured)
    evidence = Ledger(places.ledger(TASK)).entries()[0]["evidence"]
    assert evidence["dataset_md5"] == now
    assert evidence["n"] == len(drawn_dataset.split("test")) - 1
    assert evidence["faults"] == []


def test_a_model_is_not_measured_on_images_it_learned_from(registry, places, drawn_dataset, tmp_path):
    """Splits drawn anew under a model: its score on the new test split would be that of a memory."""
    learned = drawn_dataset.split("train").index[0]

    def redrawn(table):
        table.loc[learned, "split"] = "test"
        return table

    prepared_now(places, drawn_dataset, redrawn)
    decision = registry.promote(TASK, model(tmp_path, "a", 0.9, dataset_md5=drawn_dataset.md5))
    assert not decision.promote
    name = drawn_dataset.manifest.loc[learned, "id"]
    assert f"1 of its test images, such as {name}, were in the training or validation split" in decision.reasons[0]


def test_a_dry_run_changes_nothing(registry, tmp_path, places):
    assert registry.promote(TASK, model(tmp_path, "a", 0.9), dry_run=True).promote
    assert registry.version(TASK, CHALLENGER) is None
    assert not places.ledger(TASK).exists()


def test_an_evaluation_changed_after_registration_is_refused(registry, tmp_path):
    version = register(registry, model(tmp_path, "a", 0.9))
    path = version.evaluation / "evaluation.json"
    path.write_text(path.read_text().replace("0.9,", "0.99,"))
    with pytest.raises(RegistryError, match="was changed after it was registered"):
        registry.version(TASK, CHALLENGER)


def test_a_model_that_was_not_evaluated_is_told_to_be(registry, tmp_path):
    bundle = model(tmp_path, "a", 0.9)
    shutil.rmtree(evaluation_of(bundle))
    with pytest.raises(EvaluationError, match="run `derm evaluate`"):
        registry.promote(TASK, bundle)


def test_predictions_that_do_not_cover_the_split_are_a_fault(tmp_path):
    """Leaving out the hard cases is the oldest way to a better number."""
    bundle = model(tmp_path, "a", 0.9)
    measured = Evaluation.load(evaluation_of(bundle))
    path = evaluation_of(bundle) / "predictions.parquet"
    measured.predictions.iloc[1:].to_parquet(path)
    faults = Evidence.read(TASK, bundle, evaluation_of(bundle)).faults
    assert any("do not cover exactly the frozen split" in fault for fault in faults)
    assert any("39 predictions for 40 cases" in fault for fault in faults)


def test_an_evaluation_of_another_model_is_a_fault(tmp_path):
    bundle, other = model(tmp_path, "a", 0.9), model(tmp_path, "b", 0.9)
    assert Evidence.read(TASK, bundle, evaluation_of(other)).faults
    assert not Evidence.read(TASK, bundle, evaluation_of(bundle)).faults


def test_a_resumed_training_goes_on_in_its_run(registry, tmp_path):
    """Otherwise a crash leaves half a curve here and half a curve there."""
    recipe, folder = TASK.recipe("drawn"), tmp_path / "model"
    report = EpochReport(1, 2, 0.7, {"auc_mean": 0.6, "auc_nevus": float("nan")}, 1e-3, 1.0, 50.0, True)
    first = registry.begin(TASK, folder, recipe, {"dagster_run_id": "one"})
    registry.log_epoch(first, report)
    registry.end(first, "FAILED")
    second = registry.begin(TASK, folder, recipe, {"dagster_run_id": "two"})
    assert second.id == first.id
    stored = registry.client.get_run(first.id)
    assert stored.data.metrics["validation_auc_mean"] == 0.6
    assert "validation_auc_nevus" not in stored.data.metrics
    assert stored.data.tags["dagster_run_id"] == "two"
    assert stored.data.params["backbone"] == "resnet18"


def test_without_a_champion_the_command_line_says_what_to_do(registry):
    with pytest.raises(DermError, match="has no champion: train a model, then `derm promote"):
        registry.champion(TASK)


def test_the_command_line_finds_the_registry_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert open_registry().places.home == str(tmp_path / "home")


def test_mlflow_gets_what_comes_from_data_as_visible_text(registry, tmp_path):
    """Its pages show run names, tags and parameters to people who did not see the delivery."""
    folder = tmp_path / "strong\n\x1b[2J"
    folder.mkdir()
    recipe = TASK.recipe("drawn", pretrained="weights\u202e.safetensors")
    run = registry.client.get_run(registry.begin(TASK, folder, recipe, {"source": "one\nrun"}).id)
    assert run.info.run_name == r"strong\n\x1b[2J"
    assert run.data.tags["source"] == r"one\nrun"
    assert run.data.params["pretrained"] == r"weights\u202e.safetensors"
