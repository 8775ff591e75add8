"""The model registry on a real (sqlite) MLflow: what is registered is what was trained, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from derm_assets.resources.datasets import evaluation_of
from derm_assets.resources.ledger_anchor import HEAD
from derm_assets.resources.model_registry import ModelRegistry, RegistryError, open_registry
from derm_assets.resources.promotions import Promotions
from derm_ml import DermError
from derm_ml.bundles.bundle import MODEL, Bundle, BundleError, read_card, seal
from derm_ml.data.dataset import Dataset, freeze
from derm_ml.data.splits import split_hash
from derm_ml.evaluation.record import Evaluation, EvaluationError
from derm_ml.evaluation.report import save as save_report
from derm_ml.metrics.metric import Metric
from derm_ml.progress import EpochReport
from derm_ml.promotion import CHALLENGER, CHAMPION, PREVIOUS, PromotionError
from derm_ml.promotion.decision import Decision
from derm_ml.promotion.ledger import Ledger
from derm_ml.promotion.looks import Looked, Looks
from derm_ml.records import SPLITS
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
WHY = "false alarms in clinic 3"


def register(registry, bundle):
    return registry.register(TASK, bundle, evaluation_of(bundle))


def events(places) -> list[str]:
    return [entry["event"] for entry in Ledger(places.ledger(TASK)).entries()]


def test_what_is_stored_is_what_was_trained(registry, model):
    bundle = model("good")
    version = register(registry, bundle)
    assert Bundle.open(version.bundle).card == Bundle.open(bundle).card
    assert registry.version(TASK, CHALLENGER) == version
    stored = registry.client.get_model_version(TASK.name, "1")
    assert stored.tags["dataset_md5"] == Bundle.open(bundle).card.dataset_md5
    assert stored.tags["model_version"] == Bundle.open(bundle).version


def test_nothing_stored_is_a_pickle(registry, model):
    """Whoever loads a bundle from the registry must not run code that came with it."""
    version = register(registry, model("good"))
    stored = {p.suffix or p.name for p in version.bundle.parent.rglob("*") if p.is_file()}
    assert stored <= {".json", ".onnx", ".npz", ".safetensors", ".parquet", ".csv", ".html", ".png", ".jpg", "MLmodel"}


def test_registering_again_is_the_same_version(registry, model):
    """A step that was killed and is run again must not litter the registry."""
    assert [register(registry, model("good")).number for _ in range(3)] == [1, 1, 1]


def test_bytes_that_never_arrived_get_no_alias(registry, model, tmp_path, monkeypatch):
    bundle = model("good")
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


def test_promotion_moves_the_aliases_and_rollback_withdraws(registry, promotions, model, places):
    """From a weekly run to the next: what was rolled back does not come back by itself."""
    assert promotions.promote(TASK, model("fair")).promote
    assert promotions.promote(TASK, model("good")).promote
    assert (registry.alias(TASK, CHAMPION), registry.alias(TASK, PREVIOUS)) == (2, 1)
    assert (
        Promotions(registry)
        .rollback(TASK, WHY)
        .startswith(f"version 1 is the champion of {TASK.name} again; version 2 is with")
    )
    assert (registry.alias(TASK, CHAMPION), registry.alias(TASK, PREVIOUS)) == (1, None)
    decision = promotions.promote(TASK, model("good"))
    assert not decision.promote
    assert WHY in decision.reasons[0]
    assert not promotions.promote(TASK, model("good"), dry_run=True).promote
    assert events(places) == [
        "promoting",
        "promoted",
        "promoting",
        "promoted",
        "rolling_back",
        "rolled_back",
        "refused",
    ]
    assert promotions.reinstate(TASK, 2, "it was the camera") == f"version 2 of {TASK.name} may be promoted again"
    assert promotions.promote(TASK, model("good")).promote


def test_a_worse_model_does_not_become_champion(registry, promotions, model):
    promotions.promote(TASK, model("good"))
    decision = promotions.promote(TASK, model("weak"))
    assert not decision.promote
    assert any("is not better than" in reason for reason in decision.reasons)
    assert registry.alias(TASK, CHAMPION) == 1


def test_a_newer_evaluation_of_the_same_bundle_is_the_one_that_is_judged(registry, promotions, model):
    """Measured again after a fault was found in the first measurement: the old numbers must not promote it."""
    bundle = model("good")
    register(registry, bundle)
    measured = Evaluation.load(evaluation_of(bundle))
    save_report(
        replace(measured, metrics=measured.metrics | {"auc_mean": Metric(0.55, 0.4, 0.7, 40)}), evaluation_of(bundle)
    )
    version = register(registry, bundle)
    assert version.number == 2
    assert registry.alias(TASK, CHALLENGER) == 2
    decision = promotions.promote_version(TASK, 2)
    assert not decision.promote
    assert "evaluation.json says other metrics than its predictions" in decision.reasons[0]


def prepared_now(places, dataset: Dataset, change) -> str:
    """The manifest, changed, as what is prepared now; its md5."""
    folder = places.prepared(TASK)
    table = change(dataset.manifest.copy())
    table.to_parquet(folder / "manifest.parquet", index=False)
    splits = dict(zip(table["id"], table["split"], strict=True))
    info = dataset.info | {"split_hashes": {split: split_hash(splits, split) for split in SPLITS}}
    (folder / "dataset.json").unlink()  # a hard link into the frozen version
    (folder / "dataset.json").write_text(json.dumps(info))
    return Dataset.open(folder).md5


@pytest.fixture
def unlinked(monkeypatch):
    """Writing into the prepared folder replaces its files, as `derm prepare` does, and leaves the frozen version."""
    import pandas as pd

    written = pd.DataFrame.to_parquet

    def to_parquet(self, path, **options):
        Path(path).unlink(missing_ok=True)
        return written(self, path, **options)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", to_parquet)


def test_a_model_of_older_data_is_judged_on_the_present_test_split(promotions, places, model, tinted_dataset, unlinked):
    """Data arrived between training and promotion: the old test split is no longer what the champion has to face."""
    first = tinted_dataset.split("test").index[0]
    bundle = model("good")
    now = prepared_now(places, tinted_dataset, lambda table: table.drop(first))
    promotions.promote(TASK, bundle)
    evidence = Ledger(places.ledger(TASK)).entries()[0]["evidence"]
    assert evidence["dataset_md5"] == now
    assert evidence["n"] == len(tinted_dataset.split("test")) - 1
    assert evidence["faults"] == []


@pytest.mark.parametrize("own_data", ["there", "gone"])
def test_a_model_is_not_promoted_on_images_it_learned_from(
    promotions, places, model, tinted_dataset, unlinked, own_data
):
    """Splits drawn anew under a model: its score on the new test split would be that of a memory. It was promoted
    where its own dataset was gone."""
    learned = tinted_dataset.split("train").index[0]
    bundle = model("good")

    def redrawn(table):
        table.loc[learned, "split"] = "test"
        return table

    prepared_now(places, tinted_dataset, redrawn)
    if own_data == "gone":
        shutil.rmtree(places.version(TASK, tinted_dataset.md5))
    decision = promotions.promote(TASK, bundle)
    assert not decision.promote
    name = tinted_dataset.manifest.loc[learned, "id"]
    assert f"1 of the 61 test images (e.g. {name}) are in the data the model learned from" in decision.reasons[0]


def test_without_the_data_nothing_is_promoted(promotions, places, model):
    """No check can be run again, no image asked again."""
    bundle = model("good")
    shutil.rmtree(places.prepared(TASK))
    shutil.rmtree(Path(places.data) / "versions")
    decision = promotions.promote(TASK, bundle)
    assert not decision.promote
    assert "is not on this machine: run `derm prepare" in decision.reasons[0]
    assert events(places) == ["refused"]


def test_a_corrupt_cache_is_not_frozen_under_the_right_name(places, model, tinted_dataset):
    """DVC trusts its own cache: one damaged object became the dataset of that md5 for ever."""
    model("good")
    frozen = places.version(TASK, tinted_dataset.md5)
    shutil.rmtree(frozen)
    shard = next((places.prepared(TASK) / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[3000] ^= 1
    shard.unlink()
    shard.write_bytes(bytes(data))
    with pytest.raises(DermError, match="a file was damaged or changed"):
        freeze(places.prepared(TASK), frozen)
    assert not frozen.exists()


def test_a_dry_run_changes_nothing(registry, promotions, model, places):
    assert promotions.promote(TASK, model("good"), dry_run=True).promote
    assert registry.version(TASK, CHALLENGER) is None
    assert not places.ledger(TASK).exists()


def test_the_champion_measured_again_is_not_weighed_against_itself(registry, promotions, model, places):
    """It said "does not exceed 0.9893 by more than 0.0000": as if the champion had lost to itself."""
    assert promotions.promote(TASK, model("fair")).promote
    assert promotions.promote(TASK, model("good")).promote
    decision = promotions.promote(TASK, model("good"), dry_run=True)
    assert decision == Decision.champion_already(2)
    measured = evaluation_of(model("good")) / "evaluation.json"
    stored = json.loads(measured.read_text())
    measured.write_text(json.dumps(stored, indent=1) + "\n")  # as after `derm evaluate`: other bytes of the same model
    said = derm(places, "promote", TASK.name, str(model("good")), "--dry-run")
    assert (said.returncode, said.stdout) == (0, "unchanged\n")
    assert "- version 2 is the champion already: there is nothing to promote" in said.stderr
    assert promotions.promote(TASK, model("good")) == Decision.champion_already(2)
    assert [version.number for version in promotions.registered(TASK)] == [1, 2], "it was registered again, and refused"
    assert not promotions.promote(TASK, model("fair"), dry_run=True).promote
    assert promotions.challenger(TASK) is None


def test_a_dry_run_is_a_look_at_the_test_split_like_any_other(registry, promotions, model, places):
    """Else whoever tries twenty models with --dry-run promotes the luckiest as if it were the first."""
    for name in ("fair", "weak", "good", "fair"):
        promotions.promote(TASK, model(name), dry_run=True)
    split_hash = Evaluation.load(evaluation_of(model("fair"))).split_hash
    assert Looks(Ledger(places.ledger(TASK))).at(split_hash) == Looked(3)
    promotions.promote(TASK, model("fair"))
    assert Ledger(places.ledger(TASK)).entries()[0]["looked"] == {"people": 3, "automation": 0}


def test_an_evaluation_changed_after_registration_is_refused(registry, promotions, model):
    version = register(registry, model("good"))
    path = version.evaluation / "evaluation.json"
    path.write_text(path.read_text().replace("0.9", "0.99"))
    decision = promotions.promote_version(TASK, version.number)
    assert "was changed after it was registered" in decision.reasons[0]


def test_a_model_that_was_not_evaluated_is_told_to_be(registry, promotions, model):
    bundle = model("good")
    shutil.rmtree(evaluation_of(bundle))
    with pytest.raises(EvaluationError, match="run `derm evaluate`"):
        promotions.promote(TASK, bundle)


# ------------------------------------------------- who can write to the registry


@pytest.mark.parametrize(
    ("tag", "value", "why"),
    [
        ("bundle", "../../../elsewhere/bundle", "the tag `bundle` of version 1 says '../../../elsewhere/bundle'"),
        ("evaluation", "..", "the tag `evaluation` of version 1 says '..'"),
        ("model_version", "../../x", "which is not 12 hexadecimal digits"),
        ("model_version", "0123456789ab", "the tag `bundle` of version 1 says"),
        ("evaluation_sha256", "../" * 20, "which is not 64 hexadecimal digits"),
    ],
)
def test_a_tag_is_not_a_path(registry, promotions, model, tag, value, why):
    """A neighbour on a shared MLflow edits one tag, and a foreign bundle would be the champion."""
    promotions.promote(TASK, model("good"))
    registry.client.set_model_version_tag(TASK.name, "1", tag, value)
    with pytest.raises(RegistryError, match=why):
        promotions.champion(TASK)


def test_another_bundle_in_place_of_the_registered_one_is_not_opened(registry, model):
    """Whole and sealed, but another model than the version says."""
    version = register(registry, model("good"))
    shutil.rmtree(version.bundle)
    shutil.copytree(model("weak"), version.bundle)
    with pytest.raises(RegistryError, match="holds model"):
        registry.read(TASK, 1)


def test_a_stored_folder_that_is_a_link_is_not_followed(registry, model, tmp_path):
    version = register(registry, model("good"))
    elsewhere = Path(shutil.move(version.bundle, tmp_path / "elsewhere"))
    version.bundle.symlink_to(elsewhere)
    with pytest.raises(RegistryError, match="outside the artifacts of its run"):
        registry.read(TASK, 1)


def test_the_number_of_the_champion_with_another_model_behind_it(registry, promotions, model):
    """Tags and folder of version 1 changed together: only the ledger knows which model was promoted."""
    promotions.promote(TASK, model("good"))
    other = register(registry, model("weak"))
    weak = registry.client.get_model_version(TASK.name, str(other.number))
    run = registry.client.get_model_version(TASK.name, "1").run_id
    for folder in (other.bundle, other.evaluation):
        registry.client.log_artifacts(run, str(folder), folder.name)
    for tag in ("model_version", "evaluation_sha256", "bundle", "evaluation"):
        registry.client.set_model_version_tag(TASK.name, "1", tag, weak.tags[tag])
    with pytest.raises(PromotionError, match=r"is now model .*, the ledger promoted model"):
        promotions.champion(TASK)


# ----------------------------------------------- ledger, alias, registry disagree


def derm(places, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as an operator runs it."""
    environment = {**os.environ, "DERM_DATA": places.data, "DERM_OUT": places.out, "DERM_HOME": places.home,
                   "COLUMNS": "300", "MLFLOW_TRACKING_URI": ""}  # fmt: skip
    command = [sys.executable, "-m", "derm_ml.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def forge_edited(registry, places):
    path = places.ledger(TASK)
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))


def forge_truncated(registry, places):
    path = places.ledger(TASK)
    path.write_text("\n".join(path.read_text().splitlines()[:2]) + "\n")


def forge_removed(registry, places):
    places.ledger(TASK).unlink()


def forge_alias(registry, places):
    registry.client.set_registered_model_alias(TASK.name, CHAMPION, "1")


def forge_no_alias(registry, places):
    registry.client.delete_registered_model_alias(TASK.name, CHAMPION)


def forge_empty_registry(registry, places):
    registry.client.delete_registered_model(TASK.name)


@pytest.mark.parametrize(
    ("forge", "said", "repaired"),
    [
        (forge_edited, "does not follow from what stands before it", "version 2 is champion, as the registry says"),
        (forge_truncated, "ends with another entry (of 2) than the registry", "version 2 is champion, as the registry"),
        (forge_removed, "is missing or empty, unlike what the registry remembers", "version 2 is champion, as the"),
        (forge_alias, "the registry's alias says version 1", "`champion` points to version 2 again"),
        (forge_no_alias, "the registry's alias says nobody", "`champion` points to version 2 again"),
        (forge_empty_registry, "or its database was lost", "nobody is champion"),
    ],
)
def test_each_disagreement_is_one_sentence_with_the_command_that_repairs_it(
    registry, promotions, places, model, forge, said, repaired
):
    """Silence here let a model answer patients that no evidence speaks for."""
    for name in ("fair", "good"):
        promotions.promote(TASK, model(name))
    forge(registry, places)
    for call in (
        lambda: promotions.champion(TASK),
        lambda: promotions.promote(TASK, model("weak")),
        lambda: promotions.rollback(TASK, WHY),
    ):
        with pytest.raises(PromotionError) as told:
            call()
        assert said in str(told.value)
        assert f"`derm doctor {TASK.name} --repair --why …`" in str(told.value)
        assert "\n" not in str(told.value)
    assert not promotions.doctor(TASK)[-1].ok
    checks = promotions.doctor(TASK, repair=True, why="looked at together")
    assert any(repaired in check.message for check in checks), checks
    assert all(check.ok for check in promotions.doctor(TASK))
    assert promotions.history(TASK)[-1]["why"] == "looked at together"


def test_a_lost_database_is_not_a_task_without_a_champion(registry, promotions, places, model, fresh_database):
    """A new, empty database beside a full ledger: "there is no champion yet" let any model in."""
    promotions.promote(TASK, model("good"))
    shutil.copyfile(fresh_database, Path(places.home) / "mlflow" / "mlflow.db")
    registry._opened = None  # as the next process finds it
    with pytest.raises(PromotionError, match="the registry knows of none: it is another registry"):
        promotions.promote(TASK, model("weak"))
    assert derm(places, "promote", TASK.name, str(model("weak"))).returncode == 2


def test_an_operator_sees_and_repairs_it_from_a_terminal(registry, promotions, places, model):
    """In a second process: nothing rests on what this one remembers."""
    for name in ("fair", "good"):
        promotions.promote(TASK, model(name))
    forge_alias(registry, places)
    refused = derm(places, "champion", TASK.name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("derm: the ledger says that version 2") == 1
    assert "Traceback" not in refused.stderr
    found = derm(places, "doctor", TASK.name)
    assert found.returncode == 1
    assert "FAIL lesion_classification champion: the ledger says" in found.stdout
    assert derm(places, "doctor", TASK.name, "--repair", "--why", "a click").returncode == 0
    assert derm(places, "champion", TASK.name).stdout.startswith("version 2, model ")
    told = derm(places, "history", TASK.name).stdout
    assert "a click" in told
    assert told.count("promoted") == 2


def test_who_was_champion_is_asked_by_date(promotions, places, model):
    promotions.promote(TASK, model("fair"))
    assert (
        derm(places, "champion", TASK.name, "--at", "2020-01-01").stdout
        == f"{TASK.name} had no champion on 2020-01-01\n"
    )
    today = derm(places, "champion", TASK.name, "--at", "2999-01-01").stdout
    assert today.startswith(f"version 1, model {Bundle.open(model('fair')).version}, since 20")
    wrong = derm(places, "champion", TASK.name, "--at", "yesterday")
    assert wrong.returncode == 2
    assert "--at yesterday: write a date such as 2026-03-01" in wrong.stderr


def test_a_damaged_champion_is_put_back_from_the_model_folder(registry, promotions, model):
    """Its files in the registry are damaged, the folder it was trained in is whole."""
    promotions.promote(TASK, model("good"))
    stored = promotions.champion(TASK) / MODEL
    stored.write_bytes(b"damaged")
    decision = promotions.promote(TASK, model("fair"))
    assert "the champion, version 1, cannot be read" in decision.reasons[0]
    assert not promotions.doctor(TASK)[-1].ok
    assert any("were put back from" in check.message for check in promotions.doctor(TASK, repair=True, why="disk"))
    assert promotions.champion(TASK)


def test_a_damaged_champion_without_a_copy_is_withdrawn(registry, promotions, places, model):
    for name in ("fair", "good"):
        promotions.promote(TASK, model(name))
    (promotions.champion(TASK) / MODEL).write_bytes(b"damaged")
    shutil.rmtree(model("good").parent)
    promotions.doctor(TASK, repair=True, why="disk")
    assert registry.alias(TASK, CHAMPION) == 1
    assert promotions.champion(TASK)


def test_the_doctor_looks_at_data_and_secret_too(promotions, places, model, tinted_dataset, monkeypatch):
    promotions.promote(TASK, model("good"))
    assert [check.name for check in promotions.doctor(TASK)] == [
        "ledger",
        "champion",
        "files",
        "data",
        "secret",
        "service",
    ]
    shutil.rmtree(places.version(TASK, tinted_dataset.md5))
    shutil.rmtree(places.prepared(TASK))
    monkeypatch.setenv("DERM_SECRET", "another secret, thirty-two characters long")
    wrong = {check.name: check.message for check in promotions.doctor(TASK) if not check.ok}
    assert set(wrong) == {"data", "secret"}
    assert "run `derm prepare" in wrong["data"]
    assert "set DERM_SECRET" in wrong["secret"]


def test_the_head_of_the_ledger_lies_in_the_registry_too(registry, promotions, places, model):
    promotions.promote(TASK, model("good"))
    tag = registry.client.get_registered_model(TASK.name).tags[HEAD]
    assert len(tag) == 64


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
    assert stored.data.tags["dagster_run_ids"] == "one,two"
    assert stored.data.params["backbone"] == "resnet18"


def test_a_model_trained_with_settings_that_are_gone_gets_a_run(registry, model):
    """What is on the disk for a year must still be registered, as what it was trained with."""
    path = model("good")
    earlier = {"seed": 0, "epochs": 5, "early_stop": 3}
    seal(path, read_card(path).model_copy(update={"recipe_name": "strong", "recipe": earlier}))
    params = registry.client.get_run(registry.run_of(TASK, path).id).data.params
    assert params == {"recipe": "strong", "seed": "0", "epochs": "5", "early_stop": "3"}


def test_what_a_killed_run_left_open_is_closed_unless_another_has_taken_it_up(registry, tmp_path):
    """A training that "is running" in MLflow for weeks is looked for on every machine."""
    recipe, folder = TASK.recipe("drawn"), tmp_path / "model"
    run = registry.begin(TASK, folder, recipe, {"dagster_run_id": "one"})
    assert registry.close_killed("another") == []
    assert registry.close_killed("one") == [run.id]
    assert registry.client.get_run(run.id).info.status == "KILLED"
    registry.begin(TASK, folder, recipe, {"dagster_run_id": "two"})
    assert registry.close_killed("one") == []
    assert registry.client.get_run(run.id).info.status == "RUNNING"


def test_where_nothing_was_trained_no_database_is_made(places):
    assert ModelRegistry(places=places).close_killed("one") == []
    assert not Path(places.home).exists()


def test_without_a_champion_the_command_line_says_what_to_do(promotions):
    with pytest.raises(DermError, match="has no champion: train a model, then `derm promote"):
        promotions.champion(TASK)


def test_the_command_line_finds_the_registry_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert open_registry().registry.places.home == str(tmp_path / "home")


def test_mlflow_gets_what_comes_from_data_as_visible_text(registry, tmp_path):
    """Its pages show run names, tags and parameters to people who did not see the delivery."""
    folder = tmp_path / "strong\n\x1b[2J"
    folder.mkdir()
    recipe = TASK.recipe("drawn", pretrained="weights\u202e.safetensors")
    run = registry.client.get_run(registry.begin(TASK, folder, recipe, {"source": "one\nrun"}).id)
    assert run.info.run_name == r"strong\n\x1b[2J"
    assert run.data.tags["source"] == r"one\nrun"
    assert run.data.params["pretrained"] == r"weights\u202e.safetensors"
