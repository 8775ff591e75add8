"""lesion_segmentation from end to end on drawn pictures, whose masks are exact."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.cli import app
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.comparison import MeasuredModel, compare
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import save as save_report
from derm_ml.explain.panels import COLUMN
from derm_ml.metrics.segmentation import mask_scores
from derm_ml.model_folder import ModelFolder
from derm_ml.promotion.decision import decide
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.policy import Policy
from derm_ml.registry import get_task
from derm_ml.synthetic.fundus import draw_fundus
from derm_ml.task import Finding

pytestmark = pytest.mark.slow

TASK = get_task("lesion_segmentation")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("segmentation")
    TASK.draw(folder / "raw", 100, seed=1)
    return prepare(TASK, folder / "raw", TASK.settings(), folder / "data")


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("segmenter")
    TASK.fit(dataset, TASK.recipe("drawn", workers=0, precision="32-true"), out)
    return out


@pytest.fixture(scope="module")
def predictor(model):
    return Segmenter(model / "bundle")


@pytest.fixture(scope="module")
def evaluation(predictor, dataset) -> Evaluation:
    return TASK.evaluate(predictor, dataset, "test")


def test_it_learns_what_was_drawn_and_its_gates_are_green(evaluation):
    metric = evaluation.metrics["dice"]
    assert metric.low is not None
    assert metric.low > 0.85
    assert metric.n == 20
    assert all(gate.check(evaluation).passed for gate in TASK.gates)


def test_every_number_is_a_mean_over_the_pictures_in_the_csv(evaluation, tmp_path):
    folder = save_report(evaluation, tmp_path / "evaluation")
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == 20
    for name in ("dice", "jaccard", "thresholded_jaccard", "hd95", "sensitivity", "specificity"):
        assert evaluation.metrics[name].value == pytest.approx(table[name].mean(), abs=1e-5)
    assert sum(row["n"] for row in evaluation.tables["by_size"]) == 20
    assert (folder / "figures" / "worst_cases.png").stat().st_size < 200_000
    assert "Research use only" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Dataset:
    """Pictures that are stored smaller than their masks, as those of a real archive are."""
    folder = tmp_path_factory.mktemp("small")
    TASK.draw(folder / "raw", 30, seed=2)
    return prepare(TASK, folder / "raw", TASK.settings(store_side=80), folder / "data")


def test_each_picture_is_segmented_once_and_its_masks_are_read_again(predictor, small, tmp_path, monkeypatch):
    """Scores at the original size, the endpoint's answer and the figures come from one run of the graph."""
    asked: list[int] = []
    segment = Segmenter.probabilities
    monkeypatch.setattr(Segmenter, "probabilities", lambda s, images: asked.append(len(images)) or segment(s, images))
    monkeypatch.setattr(Segmenter, "segment", None)
    first, again = (TASK.evaluate(predictor, small, "test", ModelFolder(tmp_path)) for _ in range(2))
    assert sum(asked) == first.n == len(small.split("test"))
    assert again.summary() == first.summary()
    assert again.figures == first.figures
    pd.testing.assert_frame_equal(again.predictions, first.predictions)
    assert {"worst_cases", "from_worst_to_best"} <= set(first.figures)


def test_masks_are_measured_at_the_size_of_the_original(predictor, small):
    """A network that is scored on its own small square looks better than what a user gets."""
    table = TASK.evaluate(predictor, small, "test").predictions.set_index("id")
    row = small.split("test").iloc[0]
    assert small.image(row).shape == (60, 80, 3)
    assert small.mask(row).shape == (144, 192)
    found = predictor.segment([small.image(row)], [(144, 192)])[0]
    assert found.mask.shape == found.probability.shape == (144, 192)
    assert table.loc[row["id"], "dice"] == pytest.approx(mask_scores(found.mask, small.mask(row)).dice)
    assert (table[["tp", "fp", "fn", "tn"]].sum(axis=1) == 144 * 192).all()
    answered = predictor.segment([small.image(row)])[0]
    assert table.loc[row["id"], "answer.area_share"] == pytest.approx((answered.mask > 0).mean())
    assert table.loc[row["id"], "answer.confidence"] == pytest.approx(answered.confidence)


def test_a_turned_picture_gets_the_turned_mask(predictor, dataset):
    """The bundle averages over flips, each undone: were one not, the mask would be smeared."""
    image = dataset.image(dataset.split("test").iloc[0])
    straight, turned = (predictor.segment([picture])[0] for picture in (image, image[::-1, ::-1]))
    np.testing.assert_allclose(straight.square, turned.square[::-1, ::-1], atol=1e-4)


def test_a_segmenter_is_not_taken_for_a_classifier(model):
    with pytest.raises(BundleError, match="is a segmenter, not a classifier"):
        Classifier(model / "bundle")


def test_what_the_service_repeats_is_what_the_evaluation_saved(predictor, dataset, evaluation):
    saved = evaluation.predictions.set_index("id")
    for _, row in dataset.split("test").iterrows():
        said = TASK.answer(predictor, dataset.image(row), {})
        for name in ("area_share", "confidence"):
            assert said[name] == pytest.approx(saved.at[row["id"], f"answer.{name}"], abs=1e-6)


def test_an_unknown_form_of_mask_is_named(predictor, dataset):
    with pytest.raises(ValueError, match="png, rle, polygon"):
        TASK.answer(predictor, dataset.image(dataset.split("test").iloc[0]), {"mask": "svg"})


def broken(evaluation: Evaluation, **columns) -> Evaluation:
    """The same evaluation with other scores."""
    from derm_ml.evaluation.segmentation import _metrics

    table = evaluation.predictions.assign(**columns)
    return Evaluation(**{**evaluation.__dict__, "predictions": table, "metrics": _metrics(table)})


def outcome(name: str, evaluation: Evaluation) -> Finding:
    return next(gate for gate in TASK.gates if gate.name == name).check(evaluation)


def test_gates_stop_a_network_that_misses(evaluation):
    assert not outcome("masks_overlap_the_lesions", broken(evaluation, dice=0.5)).passed
    assert not outcome("lesions_are_not_missed", broken(evaluation, tp=[0] + [5] * 19, fp=0)).passed


def test_a_network_that_may_be_worse_than_the_champion_is_not_promoted(evaluation, model, dataset, tmp_path):
    """The paired difference over the same pictures decides, not two numbers beside each other."""
    save_report(evaluation, tmp_path / "held")
    first = float(evaluation.predictions["dice"].iloc[0])
    better = broken(evaluation, dice=[first - 0.6] + [1.0] * 19)  # a higher mean, but one image fell apart
    assert better.value("dice") > evaluation.value("dice")
    held = Evidence.read(TASK, model / "bundle", tmp_path / "held", dataset)
    assert not held.faults
    assert held.repeated == len(dataset.split("test"))
    candidate = replace(held, model_version="other", value=better.metrics["dice"].value)
    comparison = compare((MeasuredModel("champion", evaluation), MeasuredModel("candidate", better)), TASK)
    row = next(row for row in comparison.rows if row.metric == "dice")
    lower = row.difference.low
    assert lower < -Policy.of(TASK).worse_by
    policy = Policy.of(TASK).model_copy(update={"patients": row.difference.groups})
    decision = decide(candidate, held, policy, "dice", row.difference)
    assert "not shown to be non-inferior" in decision.reasons[0]


@pytest.mark.parametrize("forged", ["dice", "pixels too"])
def test_scores_written_by_hand_are_not_believed(evaluation, model, dataset, tmp_path, forged):
    """The Dice of an image follows from its pixels, and those from the mask that is drawn again."""
    columns = {"dice": 0.99} if forged == "dice" else {"dice": 1.0, "jaccard": 1.0, "fp": 0, "fn": 0}
    save_report(broken(evaluation, **columns), tmp_path / "forged")
    (fault,) = Evidence.read(TASK, model / "bundle", tmp_path / "forged", dataset).faults
    expected = "is not that of its pixels" if forged == "dice" else "predicted again differ from the stored predictions"
    assert expected in fault


def test_the_command_line_writes_masks_and_overlays_of_a_folder(model, dataset, tmp_path):
    pictures = tmp_path / "pictures" / "inner"
    pictures.mkdir(parents=True)
    for number, (_, row) in enumerate(dataset.split("test").head(2).iterrows()):
        Image.fromarray(dataset.image(row)).save(pictures / f"photo{number}.png")
        Image.fromarray(dataset.image(row)).save(pictures.parent / f"photo{number}.png")  # the same name once more
    arguments = [
        "predict",
        TASK.name,
        str(pictures.parent),
        "--model",
        str(model),
        "--into",
        str(tmp_path / "out"),
        "--json",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 4
    assert len({answer["mask"] for answer in answers}) == 4, "one picture's mask overwrote another's"
    for answer in answers:
        mask = np.asarray(Image.open(answer["mask"]))
        assert mask.shape == (144, 192)
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(answer["area_share"])
        assert Image.open(answer["overlay"]).size[0] == max(COLUMN, 192)


@pytest.mark.parametrize(
    "values",
    [
        {"recipe": "strong", "backbone": "mobilenet_v2", "networks": ["unet", "improved_unet"]},  # one of each
        {"recipe": "strong", "backbone": "resnet18", "members": 1},
        {"recipe": "strong_gpu", "backbone": "resnet18", "members": 1, "compile": False, "precision": "bf16-mixed"},
        {"recipe": "faithful", "width": 2},
    ],
    ids=lambda values: f"{values['recipe']} {values.get('backbone', '')}",
)
def test_every_recipe_trains_and_draws(values, dataset, tmp_path):
    from safetensors.torch import save_file
    from torchvision.models import get_model

    values = dict(values)
    recipe = values.pop("recipe")
    if "backbone" in values:
        save_file(get_model(values["backbone"], weights=None).state_dict(), tmp_path / "weights.safetensors")
        values["pretrained"] = str(tmp_path / "weights.safetensors")
    chosen = TASK.recipe(recipe, epochs=1, side=64, batch_size=12, workers=0, **values)
    predictor = Segmenter(TASK.fit(dataset, chosen, tmp_path / "model"))
    found = predictor.segment([dataset.image(dataset.split("test").iloc[0])])[0]
    assert found.mask.shape == (144, 192)
    assert 0 <= found.confidence <= 1
    assert predictor.card.mask_rule.largest_component == (recipe != "faithful")
    assert predictor.card.pretrained.startswith("file:weights" if "backbone" in values else "none")


def test_it_answers_lesions_and_abstains_from_what_it_was_never_shown(predictor, dataset):
    """A mask drawn on a retina or on noise looks as good as one drawn on a lesion."""
    rng = np.random.default_rng(0)
    others = {
        "a retina": draw_fundus([], 4, side=300).image,
        "blank": np.full((300, 400, 3), 150, np.uint8),
        "noise": rng.integers(0, 256, (300, 400, 3), np.uint8),
    }
    for name, image in others.items():
        (found,) = predictor.segment([image])
        assert found.fitness.abstained, name
        said = TASK.answer(predictor, image, {})
        assert (said["mask"], said["area_share"], said["confidence"], said["bounding_box"]) == (None,) * 4
        assert said["abstained_because"]
        assert TASK.answer(predictor, image, {"abstained": "numbers"})["mask"] is not None
        assert TASK.explanation(predictor, image, {})[1].layers == []
    rows = dataset.split("test")
    refused = [predictor.segment([dataset.image(row)])[0].fitness.abstained for _, row in rows.iterrows()]
    assert sum(refused) <= 1, "of 20"
    assert "no input gate" not in str(TASK.answer(predictor, dataset.image(rows.iloc[0]), {})["warnings"])


def test_the_card_tells_of_the_embedding(predictor, dataset):
    described = predictor.card.network_data_format["model.onnx"].outputs["embedding"]
    assert "deepest maps" in described.meaning
    found = predictor.seen([dataset.image(dataset.split("test").iloc[0])])[1]
    assert found.shape == (1, described.shape[1])
