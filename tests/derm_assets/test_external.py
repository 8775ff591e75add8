"""Promotion that asks for a validation elsewhere: a model that holds only at home must not be promoted by mistake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from derm_assets.resources.datasets import evaluation_of
from derm_ml.data.dataset import Dataset, freeze
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.record import SUMMARY, Evaluation
from derm_ml.files import sha256, write_json
from derm_ml.promotion import ModelVersion
from derm_ml.promotion.external_gate import validated
from derm_ml.promotion.policy import Policy
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


@pytest.fixture(scope="module")
def elsewhere(made_once, tinted_images) -> dict[str, Dataset]:
    """Prepared sets of other images: `alike`, as at home, and `other`, where the colour says next to nothing."""

    def made(name: str, seed: int, tint: float) -> Dataset:
        def make(folder: Path) -> None:
            tinted_images(folder / "raw", seed, tint, (2, 2, 10))
            prepare(TASK, folder / "raw", TASK.settings(), folder / "prepared")

        return Dataset.open(made_once(f"elsewhere_{name}", make) / "prepared")

    return {"alike": made("alike", 11, 14), "other": made("other", 12, 2)}


@pytest.fixture
def asks(places, elsewhere, monkeypatch) -> Callable[..., None]:
    """Lets the policy ask for a validation on one of them, frozen here as `derm prepare` does."""

    def ask(name: str, here: bool = True, **settings: object) -> None:
        dataset = elsewhere[name] if name in elsewhere else settings.pop("dataset")
        if here and not places.version(TASK, dataset.md5).exists():
            freeze(dataset.path, places.version(TASK, dataset.md5))
        given = {"name": f"clinic {name}", "dataset": dataset.md5, "at_least": 0.8, "patients": 30} | settings
        few = {"repeated": 4}  # cases predicted again: enough where all of them are wrong
        policy = Policy(**Policy.of(TASK).model_dump(exclude={"external"}) | few, external=given)
        monkeypatch.setattr(Policy, "of", classmethod(lambda *_: policy))

    return ask


def row(decision):
    return next((verdict for verdict in decision.checks if verdict.check == "external_validation"), None)


def test_a_model_that_holds_elsewhere_is_promoted_and_one_that_does_not_is_refused(promotions, model, asks, places):
    bundle = model("good")
    assert Policy.of(TASK).external is None, "nothing is asked for by default"
    asks("other")
    refused = promotions.promote(TASK, bundle)
    assert (refused.promote, row(refused).verdict) == (False, "failed")
    assert "on clinic other, 30 patients; the policy asks for at least 0.8" in row(refused).evidence
    assert [why for why in refused.reasons if why.startswith("external_validation: ")] == list(refused.reasons)
    assert [v.verdict for v in refused.checks if v.check == "policy"] == ["passed"], "told once, in its own row"
    asks("alike")
    for decision in (promotions.promote(TASK, bundle, dry_run=True), promotions.promote(TASK, bundle)):
        assert (decision.promote, row(decision).verdict) == (True, "passed")
        assert "on clinic alike, 30 patients" in row(decision).evidence
    entry = next(e for e in promotions.history(TASK) if e["event"] == "promoting")
    assert entry["evidence"]["external"]["verdict"] == "passed"
    assert entry["policy"]["external"]["name"] == "clinic alike"
    page = next((Path(places.out) / TASK.name / "again").glob("*-external-*")) / "report.html"
    assert "External validation" in page.read_text()


def test_what_is_missing_too_small_or_the_tasks_own_is_no_evidence(promotions, model, asks, tinted_dataset, elsewhere):
    bundle = model("good")
    asks("alike", here=False)
    missing = promotions.promote(TASK, bundle, dry_run=True)
    assert not missing.promote
    assert f"which cannot be made: dataset {elsewhere['alike'].md5} is not on this machine" in row(missing).evidence
    asks("alike", patients=31)
    assert (
        "30 patients; the policy asks for 31 patients" in row(promotions.promote(TASK, bundle, dry_run=True)).evidence
    )
    asks("own", dataset=tinted_dataset)
    own = promotions.promote(TASK, bundle, dry_run=True)
    assert not own.promote
    assert "is the dataset of the task itself" in row(own).evidence


def test_a_set_without_the_labels_of_the_model_is_named_and_not_measured(model, asks):
    """Findings of the retina differ from table to table: this must be a sentence in the ledger and no traceback."""
    asks("alike", here=False)
    bundle = model("good")
    other = SimpleNamespace(present=lambda _: "", dataset=lambda *_: SimpleNamespace(labels=TASK.labels[:2]))
    found = validated(TASK, ModelVersion(0, bundle, evaluation_of(bundle)), other)
    assert (found.verdict, found.evidence) == (
        "failed",
        "clinic alike says nothing of seborrheic_keratosis, which the model decides",
    )


def test_what_was_written_or_is_of_another_model_does_not_count(promotions, model, asks, places):
    """Whoever can write into the folder must not thereby write the evidence."""
    good, weak = model("good"), model("weak")
    asks("alike")
    assert promotions.promote(TASK, good, dry_run=True).promote
    assert "at least 0.8" in row(promotions.promote(TASK, weak, dry_run=True)).evidence
    kept = Path(places.out) / TASK.name / "again"
    (of_good,) = kept.glob(f"{TASK.load(good).bundle.version}-external-*")
    (of_weak,) = kept.glob(f"{TASK.load(weak).bundle.version}-external-*")

    def put(folder: Path) -> Path:
        shutil.rmtree(of_weak)
        return Path(shutil.copytree(folder, of_weak))

    foreign = row(promotions.promote(TASK, weak, dry_run=True)) if put(of_good) else None
    assert foreign.verdict == "failed"
    assert f"the evaluation is of model {TASK.load(good).bundle.version}" in foreign.evidence
    stored = Evaluation.load(of_weak).summary() | {"model_version": TASK.load(weak).bundle.version}
    write_json(of_weak / SUMMARY, stored | {"predictions_sha256": sha256(of_weak / "predictions.parquet")})
    forged = row(promotions.promote(TASK, weak, dry_run=True))
    assert forged.verdict == "failed"
    assert "predicted again differ from the stored predictions" in forged.evidence
    assert "remove it" in forged.evidence
    shutil.rmtree(of_weak)
    assert row(promotions.promote(TASK, weak, dry_run=True)).evidence.endswith("the policy asks for at least 0.8")


def test_images_the_model_learned_from_validate_nothing(promotions, model, asks, tinted_raw, tmp_path):
    """The home set under another name, its splits dealt anew."""
    raw = tmp_path / "raw"
    for here, there in (("train", "test"), ("valid", "valid"), ("test", "train")):
        shutil.copytree(tinted_raw / here, raw / there)
    renamed = prepare(TASK, raw, TASK.settings(), tmp_path / "renamed")
    asks("renamed", dataset=renamed)
    refused = promotions.promote(TASK, model("good"), dry_run=True)
    assert not refused.promote
    assert "45 of the 45 test images" in row(refused).evidence
    assert "the model learned from" in row(refused).evidence
