"""What lies in a model folder, and which folder a model has."""

from __future__ import annotations

from pathlib import Path

from derm_ml.model_folder import ModelFolder, bundle_named, evaluations, model_folders
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")


def test_it_names_recipe_and_data(tmp_path):
    """The same model resumes where it was; another one must not overwrite it."""
    drawn = ModelFolder.of(tmp_path, TASK.recipe("drawn"), "x")
    assert drawn == ModelFolder.of(tmp_path, TASK.recipe("drawn"), "x")
    assert drawn != ModelFolder.of(tmp_path, TASK.recipe("drawn", seed=1), "x")
    assert drawn != ModelFolder.of(tmp_path, TASK.recipe("drawn"), "y")
    assert (drawn.path.parent, drawn.path.name.startswith("drawn-")) == (tmp_path, True)


def test_a_fit_that_was_begun_by_an_older_version_is_found_again(tmp_path):
    """The name is made of name, values and data, in JSON with sorted keys: a change of that begins every fit anew."""

    class Recipe:
        name = "strong"

        def identity(self) -> dict[str, object]:
            return {"seed": 0, "epochs": 3, "mode": "json"}

    assert ModelFolder.of(tmp_path, Recipe(), "abc.dir").path == tmp_path / "strong-f675ee9e79"


def test_a_person_names_a_model_by_its_folder_or_its_bundle(tmp_path):
    model, kept = ModelFolder(tmp_path / "strong-1"), tmp_path / "artifacts" / "bundle-3f2a"
    for bundle in (model.bundle, kept):
        bundle.mkdir(parents=True)
        (bundle / "bundle.json").touch()
    assert bundle_named(model.path) == bundle_named(model.bundle) == model.bundle
    assert bundle_named(kept) == kept, "a registry calls its bundles otherwise"
    assert bundle_named(Path("nowhere")) == Path("nowhere/bundle")


def test_what_a_training_and_an_evaluation_left_is_where_the_folder_says(trained, colour_models):
    """The files of a real training: the names are not written down twice."""
    model = ModelFolder(trained)
    assert model.finished
    assert model.history.is_file()
    assert model.checkpoint.is_file()
    found = colour_models["good"].parent
    assert [folder.path.name for folder in model_folders(found)] == ["fair", "good", "weak"]
    assert list(evaluations(found)) == [found / name / "evaluation_test" for name in ("fair", "good", "weak")]


def test_a_folder_without_its_card_is_not_finished(tmp_path):
    """A training that was killed while it sealed its bundle goes on."""
    model = ModelFolder(tmp_path / "strong-1")
    model.bundle.mkdir(parents=True)
    assert not model.finished
    assert not list(model_folders(tmp_path))
