"""lesion_classification from end to end on drawn pictures: it must learn, and must not learn from nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation import isic
from derm_ml.registry import get_task
from derm_ml.tasks.lesion_classification.submission import submit

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


def test_it_learns_what_was_drawn(trained, drawn_dataset):
    evaluation = TASK.evaluate(Classifier(trained / "bundle"), drawn_dataset, "test")
    metric = evaluation.metrics["auc_mean"]
    assert metric.low is not None
    assert metric.low > 0.6
    findings = {gate.name: gate.check(evaluation) for gate in TASK.gates if gate.blocking}
    assert [name for name, finding in findings.items() if finding.evaluable and not finding.passed] == []


def test_training_on_permuted_labels_gives_chance(drawn_dataset, tmp_path):
    """If this scored, the score would come from somewhere other than the pictures: names, order, attributes.

    Every split is permuted: pictures of one drawn class look alike, so against the true labels a network that
    learned a permutation is right or wrong class by class, and chance would be anything between 0 and 1.
    """
    table = drawn_dataset.manifest.copy()
    columns = [c for c in table.columns if c.startswith("target.")]
    rng = np.random.default_rng(1)
    for split in ("train", "validation", "test"):
        rows = table.index[table["split"] == split]
        table.loc[rows, columns] = table.loc[rng.permutation(rows), columns].to_numpy()
    permuted = Dataset(drawn_dataset.path, drawn_dataset.info, table)
    recipe = TASK.recipe("drawn", epochs=6, side=64, workers=0, keep="last")
    metric = TASK.evaluate(Classifier(TASK.fit(permuted, recipe, tmp_path)), permuted, "test").metrics["auc_mean"]
    assert metric.value == pytest.approx(0.5, abs=0.25)  # 24 pictures: 0.25 is 2.7 standard errors


@pytest.mark.parametrize("recipe", ["strong", "faithful"])
def test_every_recipe_trains_with_a_file_of_pretrained_weights(recipe, drawn_raw, drawn_dataset, tmp_path):
    """The path real users take: weights from a file, age and sex, frozen epochs, weighted loss, smaller in training."""
    from safetensors.torch import save_file
    from torchvision.models import get_model

    save_file(get_model("resnet18", weights=None).state_dict(), tmp_path / "resnet18.safetensors")
    chosen = TASK.recipe(
        recipe,
        backbone="resnet18",
        pretrained=str(tmp_path / "resnet18.safetensors"),
        epochs=2,
        frozen_epochs=1,
        side=48,
        training_side=32,
        workers=0,
        attributes=["age", "sex"],
        class_balance="weights",
        label_smoothing=0.1,
    )
    predictor = Classifier(TASK.fit(drawn_dataset, chosen, tmp_path / "model"))
    assert predictor.card.pretrained.startswith("file:resnet18.safetensors sha256:")
    image = drawn_dataset.image(drawn_dataset.split("test").iloc[0])
    asked = {"abstained": "numbers"}  # after two epochs hardly any image is like those it learned from
    old, unknown = (TASK.answer(predictor, image, asked | facts) for facts in ({"age": "85", "sex": "male"}, {}))
    assert sum(old["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert old["probabilities"] != unknown["probabilities"]
    submit(predictor, drawn_raw / "ISIC-2017_Test_Data", tmp_path / "submission.csv")  # finds ages beside the folder
    said = pd.read_csv(tmp_path / "submission.csv", index_col="Id")["task_1"]
    saved = TASK.evaluate(predictor, drawn_dataset, "test").predictions.set_index("id")["p.melanoma"]
    assert said.to_numpy() == pytest.approx(saved[said.index].to_numpy(), abs=1e-5)


@pytest.mark.parametrize("values", [{"epochs": 0}, {"ema": 1.5}, {"learning_rate": -1}, {"no_such": 1}])
def test_a_recipe_that_changes_defaults_keeps_the_limits_of_its_fields(values):
    for name in TASK.recipes:
        with pytest.raises(ValueError, match=next(iter(values))):
            TASK.recipe(name, **values)


def test_a_submission_is_scored_by_the_official_rule(trained, drawn_raw, drawn_dataset, tmp_path):
    predictor = Classifier(trained / "bundle")
    submit(predictor, drawn_raw / "ISIC-2017_Test_Data", tmp_path / "submission.csv")
    assert list(pd.read_csv(tmp_path / "submission.csv").columns) == ["Id", "task_1", "task_2"]
    scores = isic.score_submission(tmp_path / "submission.csv", drawn_raw / "ISIC-2017_Test_Part3_GroundTruth.csv")
    evaluation = TASK.evaluate(predictor, drawn_dataset, "test")
    values = [m.value for m in scores.values()]
    assert any(v == pytest.approx(evaluation.metrics["auc_mean"].value, abs=1e-6) for v in values)


def test_extra_data_are_used_for_training_alone(drawn_raw, tmp_path):
    from derm_ml.data.prepare import prepare

    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "isic2017").symlink_to(drawn_raw)
    TASK.draw(tmp_path / "more", 30, seed=99)
    for label in TASK.labels:
        (raw / "extra" / label).mkdir(parents=True)
    for number, picture in enumerate(sorted((tmp_path / "more").rglob("*.jpg"))):
        Image.open(picture).save(raw / "extra" / TASK.labels[number % 3] / f"extra{number}.jpg", quality=95)
    dataset = prepare(TASK, raw, TASK.settings(training_only=["extra"], follow_links=True), tmp_path / "out")
    splits = dataset.manifest.groupby("source")["split"].agg(set).to_dict()
    assert splits["extra"] == {"train"}
    assert splits["isic2017"] == {"train", "validation", "test"}
