"""What a model learned from: a test image it knows makes it look better than it is, and a patient is harmed by that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from derm_ml.bundles.bundle import LEARNED, Bundle, BundleError, seal
from derm_ml.data.learned_ids import LearnedIds, learned_from, started_from
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long


def test_a_bundle_says_what_it_learned_from(trained, drawn_dataset):
    learned = LearnedIds.of(Bundle.open(trained / "bundle"))
    counted = {name: len(drawn_dataset.split(name)) for name in ("train", "validation")}
    assert len(learned.ids["image"]) == sum(counted.values())
    assert learned.in_split(drawn_dataset, "test") == []
    (said,) = learned.in_split(drawn_dataset, "train")
    assert said.startswith(f"{counted['train']} of the {counted['train']} train images")


def test_only_patients_it_never_saw_are_new(retinal_dataset):
    """Ten more photos of one patient are no reason to train again."""
    table = retinal_dataset.manifest
    rows = table.loc[table["split"] == "train"]
    gone = rows["group"].iloc[0]
    before = type(retinal_dataset)(retinal_dataset.path, retinal_dataset.info, table.loc[table["group"] != gone])
    assert learned_from(before).new_patients(retinal_dataset) == 1
    assert learned_from(retinal_dataset).new_patients(retinal_dataset) == 0


def test_a_patient_is_known_again_however_the_id_is_typed(retinal_trained, retinal_dataset):
    """Another photo of a patient in training is not a new patient."""
    learned = LearnedIds.of(Bundle.open(retinal_trained / "bundle"))
    table = retinal_dataset.manifest.copy()
    test = table.index[table["split"] == "test"][0]
    known = table.loc[table["split"] == "train", "patient"].iloc[0]
    table.loc[test, "patient"] = f" {str(known).upper()}.0 "
    changed = type(retinal_dataset)(retinal_dataset.path, retinal_dataset.info, table)
    (said,) = learned.in_split(changed, "test")
    assert said.startswith("the patients of 1 of the")
    assert str(table.loc[test, "id"]) in said


def test_no_patient_or_file_name_can_be_read_from_it(retinal_trained, retinal_dataset):
    text = (retinal_trained / "bundle" / LEARNED).read_text()
    for column in ("patient", "first.sha256", "image.sha256", "id"):
        for value in retinal_dataset.manifest.get(column, []):
            assert f'"{value}"' not in text


def test_a_bundle_that_does_not_say_so_is_unknown(trained, tmp_path):
    copy = Path(shutil.copytree(trained / "bundle", tmp_path / "bundle"))
    (copy / LEARNED).unlink()
    with pytest.raises(BundleError, match="does not say which images it learned from"):
        LearnedIds.of(Bundle.open(copy))  # opening alone works: a service is built without it


def test_ids_cannot_be_taken_out_of_the_list(trained, tmp_path):
    copy = Path(shutil.copytree(trained / "bundle", tmp_path / "bundle"))
    stored = json.loads((copy / LEARNED).read_text())
    stored["image"].pop()
    (copy / LEARNED).write_text(json.dumps(stored))
    with pytest.raises(BundleError, match="was changed or is damaged"):
        Bundle.open(copy)


def test_ids_under_another_secret_are_unknown_not_absent(trained, monkeypatch):
    """Compared with other ids they would match nothing, and every leak would pass."""
    monkeypatch.setenv("DERM_SECRET", "another secret, thirty-two characters long")
    with pytest.raises(BundleError, match="set DERM_SECRET to the secret of the installation that trained the model"):
        LearnedIds.of(Bundle.open(trained / "bundle"))


def test_a_model_that_starts_from_another_knows_what_that_one_knew(trained, retinal_dataset, drawn_dataset):
    recipe = get_task("lesion_classification").recipe(
        "drawn", pretrained=str(trained / "bundle" / "weights.safetensors")
    )
    learned = learned_from(retinal_dataset, ancestors=started_from(recipe))
    assert learned.in_split(drawn_dataset, "train")
    assert started_from(get_task("lesion_classification").recipe("drawn")) == []


def test_a_card_sealed_again_names_the_same_list(trained, tmp_path):
    copy = Path(shutil.copytree(trained / "bundle", tmp_path / "bundle"))
    card = Bundle.open(copy).card
    assert seal(copy, card.model_copy(update={"learned": None})).learned == card.learned


def test_pseudo_labelled_images_are_learned_from_too(retinal_dataset):
    """They are in no split when they are learned, and may be dealt to one when somebody labels them."""
    before = learned_from(retinal_dataset)
    learned = learned_from(retinal_dataset, retinal_dataset.split("unlabelled").head(3))
    assert len(learned.ids["image"]) == len(before.ids["image"]) + 3
