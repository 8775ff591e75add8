"""External validation: a model on data it does not come from, beside its own test split, which stays as it was."""

from __future__ import annotations

import shutil

import pytest

from derm_ml.data.dataset import freeze
from derm_ml.evaluation.external import TABLE
from derm_ml.evaluation.record import Evaluation
from derm_ml.model_folder import ModelFolder
from derm_ml.places import installation
from derm_ml.tree import folder_md5

pytestmark = pytest.mark.slow  # evaluates

LC = "lesion_classification"


@pytest.fixture
def model(colour_models, tmp_path) -> ModelFolder:
    """An evaluated model of the tinted textures."""
    return ModelFolder(shutil.copytree(colour_models["good"], tmp_path / "out" / LC / "good"))


def external(derm, model, dataset) -> tuple[Evaluation, str]:
    code, out, err = derm("evaluate", LC, model.path, "--data", dataset.path)
    assert code == 0, err
    folder = model.external(dataset.md5, "test")
    assert out.rstrip().endswith(str(folder / "report.html"))
    return Evaluation.load(folder), " ".join(err.split())


def test_the_report_says_so_and_compares_and_the_own_evaluation_stays(derm, model, drawn_dataset, tinted_dataset):
    """The own test result was overwritten, and promotion then refused the model for data it was not trained on."""
    own, before = Evaluation.load(model.evaluation("test")), folder_md5(model.evaluation("test"))
    freeze(tinted_dataset.path, installation().version(LC, tinted_dataset.md5))
    found, said = external(derm, model, drawn_dataset)
    assert folder_md5(model.evaluation("test")) == before
    assert found.title.endswith("external validation")
    assert found.notes[0].startswith(f"External validation: the test split of dataset {drawn_dataset.md5[:12]}")
    assert "None of its images is in the model's training or validation split." in found.notes[0]
    assert found.notes[0] in said
    assert not any("may have been seen in training" in note for note in found.notes)
    rows = {row["metric"]: row for row in found.tables[TABLE]}
    row = rows["auc_mean"]
    assert (row["own test split"], row["external"]) == (own.value("auc_mean"), found.value("auc_mean"))
    assert row["difference"] == pytest.approx(row["external"] - row["own test split"])
    page = (model.external(drawn_dataset.md5, "test") / "report.html").read_text()
    assert "External validation" in page
    assert "own test split" in page
    assert "No evidence for promotion" in page  # however well the checks come out there


def test_images_the_model_has_learned_are_counted_or_said_to_be_unchecked(derm, model, drawn_dataset):
    assert "whether images are in both was not checked" in external(derm, model, drawn_dataset)[0].notes[0]
    assert len(drawn_dataset.also_learned(drawn_dataset, "train")) == len(drawn_dataset.split("train"))
    assert drawn_dataset.also_learned(drawn_dataset, "test") == []


def test_an_evaluation_tells_how_far_it_is(derm, model, drawn_dataset, monkeypatch):
    """Twelve minutes of silence in a log look like a process that hangs."""
    monkeypatch.setattr("derm_ml.cli.terminal.PAUSE", 0.0)
    code, _, err = derm("evaluate", LC, model.path, "--data", drawn_dataset.path)
    assert code == 0
    n = len(drawn_dataset.split("test"))
    assert f"evaluate on test · images: {n} of {n}" in err


def test_the_task_s_own_data_in_a_later_version_are_no_external_ones(derm, model, drawn_dataset, tmp_path):
    shutil.copytree(drawn_dataset.path, tmp_path / "data" / "prepared" / LC)
    code, out, err = derm("evaluate", LC, model.path)
    assert code == 0, err
    assert "Mean AUC ↑" in out
    assert out.rstrip().endswith(str(model.evaluation("test") / "report.html"))
    page = (model.evaluation("test") / "report.html").read_text()
    assert page.index("to promote</p>") < page.index("Reaches the floor") < page.index('id="metrics"')
