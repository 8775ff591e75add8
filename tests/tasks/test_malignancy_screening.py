"""malignancy_screening from end to end on drawn pictures: recall first, and no number the cases cannot bear."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from derm_ml.bundles.bundle import Bundle
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import save as save_report
from derm_ml.images.decode import decode
from derm_ml.metrics.calibration import ece
from derm_ml.metrics.classification import auc
from derm_ml.metrics.intervals import clopper_pearson, estimate
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.one_answer import precision_at
from derm_ml.metrics.operating_points import measure_point
from derm_ml.metrics.points import OperatingPoint
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.policy import Policy
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.tasks.malignancy_screening.evaluate import _prevalence_rows
from serving.factory import make_service

pytestmark = pytest.mark.slow

TASK = get_task("malignancy_screening")
POINT = Policy.of(TASK).operating_point


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """240 drawn pictures: 30 malignant ones for validation, enough for a recall of 0.90 and for no more."""
    folder = tmp_path_factory.mktemp("drawn")
    TASK.draw(folder / "raw", 240, seed=3)
    return prepare(TASK, folder / "raw", TASK.settings(), folder / "prepared")


@pytest.fixture(scope="module")
def bundle(dataset, tmp_path_factory):
    recipe = TASK.recipe("drawn", epochs=4, side=32, views="none", workers=0)
    return TASK.fit(dataset, recipe, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def evaluation(bundle, dataset, tmp_path_factory) -> Evaluation:
    measured = TASK.evaluate(Classifier(bundle), dataset, "test")
    return Evaluation.load(save_report(measured, tmp_path_factory.mktemp("report") / "evaluation_test"))


def test_every_split_of_the_drawn_set_holds_every_kind_of_lesion(tmp_path, monkeypatch):
    """If all moles of training were nevi and all of validation keratoses, calibration would be of another world."""
    from derm_ml.tasks.malignancy_screening import data

    kinds = []

    def drawn(kind, **_):
        kinds.append(kind)
        return SimpleNamespace(image=np.zeros((8, 8, 3), np.uint8))

    monkeypatch.setattr(data, "draw_lesion", drawn)
    TASK.draw(tmp_path, 240)
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = Counter((row["split"], kind) for row, kind in zip(rows, kinds, strict=True))
    for split, n in (("train", 120), ("validation", 60), ("test", 60)):
        assert found[split, "melanoma"] == n / 2
        assert found[split, "nevus"] >= n / 5
        assert found[split, "seborrheic_keratosis"] >= n / 5
    patients = {row["patient_id"]: row["split"] for row in rows}
    assert all(patients[row["patient_id"]] == row["split"] for row in rows)
    cancers = [r["patient_id"] for r in rows if r["label"] == "malignant" and r["split"] == "validation"]
    assert len(set(cancers)) == 30  # different patients, as an operating point counts them


def test_it_learns_what_was_drawn(evaluation):
    assert evaluation.metrics["auc_malignant"].low > 0.6
    assert next(iter(evaluation.metrics)) == TASK.primary_metric


def test_a_bundle_holds_its_points_and_says_what_it_cannot_claim(bundle, dataset):
    card = Bundle.open(bundle).card
    assert [p.name for p in card.operating_points] == ["balanced", "recall_0.9"]
    assert {p.split_hash for p in card.operating_points} == {dataset.split_hashes["validation"]}
    assert {p.name: p.reason for p in card.unclaimed_points} == {
        "recall_0.95": "59 positive validation cases are needed, 30 are available",
        "recall_0.99": "299 positive validation cases are needed, 30 are available",
        "recall_0.999": "2,995 positive validation cases are needed, 30 are available",
    }


def test_calibration_is_fitted_on_validation_and_shown_before_and_after(bundle, dataset, evaluation):
    predictor = Classifier(bundle)
    rows = dataset.split("validation")
    logits = np.concatenate([predictor([dataset.image(row)]).logits for _, row in rows.iterrows()])
    p, y = calibrated(predictor.card, logits)[:, 0], dataset.targets(rows)[:, 0]
    assert p.mean() == pytest.approx(y.mean(), abs=0.06)  # a bias was fitted, not a temperature alone
    before, after = evaluation.tables["calibration"]
    table = evaluation.predictions
    assert after["ece"] == pytest.approx(estimate(ece, table["p.malignant"].to_numpy(), table["target.malignant"]))
    assert before["ece"] == evaluation.value("ece_uncalibrated")


def test_the_report_holds_what_clinicians_ask_for(evaluation):
    points = {row["point"]: row for row in evaluation.tables["operating_points"]}
    table, point = evaluation.predictions, points["recall_0.9"]
    y, p = table["target.malignant"] == 1, table["p.malignant"]
    found = int((p[y] >= point["threshold"]).sum())
    low, high = clopper_pearson(found, int(y.sum()))
    assert point["recall_exact_95"] == f"{low:.4f} to {high:.4f}"
    assert point["missed"] == y.sum() - found
    assert points["recall_0.999"]["recall"] is None
    assert points["recall_0.999"]["remark"] == "2,995 positive validation cases are needed, 30 are available"
    costs = [row for row in evaluation.tables["at_prevalence"] if row["point"] == "recall_0.9"]
    assert [row["prevalence"] for row in costs] == ["50.0 % (this set)", "1 %", "2 %", "5 %", "10 %"]
    flagged = p >= point["threshold"]
    assert costs[0]["precision"] == pytest.approx(y[flagged].mean())
    assert costs[0]["number_needed_to_biopsy"] == pytest.approx(1 / y[flagged].mean(), abs=0.05)
    assert costs[1]["missed_cancers_per_1000"] == pytest.approx(10 * (1 - found / y.sum()), abs=0.01)
    low, high = (float(end) for end in costs[1]["missed_95"].split(" to "))
    assert low < costs[1]["missed_cancers_per_1000"] < high or found == y.sum()
    assert (costs[1]["positives"], costs[1]["negatives"]) == (y.sum(), (~y).sum())
    assert float(costs[1]["number_needed_95"].split(" to ")[0]) <= costs[1]["number_needed_to_biopsy"]
    attributes = {row["attribute"] for row in evaluation.tables["decisions_by_subgroup"]}
    assert attributes >= {"age", "sex", "site"}
    assert any("not evaluable (n =" in row["recall"] for row in evaluation.tables["decisions_by_subgroup"])
    assert {"roc", "precision_recall", "decision_curve", "reliability"} <= set(evaluation.figures)
    assert "59 positive validation cases are needed" in evaluation.notes[-1]
    assert [row["truth"] for row in evaluation.tables["confusion_matrix"]] == ["benign", "malignant"]


@pytest.mark.parametrize(
    ("recall", "specificity", "red"),
    [
        (Metric(0.95, 0.92, 0.97, 400), Metric(0.6, 0.55, 0.65, 1600), set()),
        (Metric(0.95, 0.89, 0.97, 400), Metric(0.6, 0.55, 0.65, 1600), {"recall_at_operating_point"}),
        (Metric(0.95, 0.92, 0.97, 400), Metric(0.3, 0.2, 0.4, 1600), {"specificity_at_operating_point"}),
        (
            undefined(30, "59 positive validation cases are needed"),
            undefined(30, "59 positive validation cases are needed"),
            {"recall_at_operating_point", "specificity_at_operating_point"},
        ),
    ],
)
def test_gates_hold_the_policy_s_promises(evaluation, recall, specificity, red):
    evaluation.metrics[f"sensitivity_malignant_at_{POINT}"] = recall
    evaluation.metrics[f"specificity_malignant_at_{POINT}"] = specificity
    findings = {gate.name: gate.check(evaluation) for gate in TASK.gates if gate.blocking}
    assert {name for name, finding in findings.items() if not finding.passed} == red
    if recall.value is None:
        missing = findings["recall_at_operating_point"]
        assert "59 positive validation cases are needed" in missing.message
        assert not missing.evaluable  # grey: nothing is shown to be wrong
        assert missing.stops  # and nothing is promoted without it


def test_a_collapsed_model_is_red_not_a_crash(bundle, dataset):
    predictor = Classifier(bundle)
    same = predictor([dataset.image(dataset.split("test").iloc[0])])

    class Constant:
        """A network that says the same of every picture."""

        card, bundle, unsquared, labels = predictor.card, predictor.bundle, predictor.unsquared, predictor.labels
        fitness, square, with_graph = predictor.fitness, predictor.square, predictor.with_graph

        def batches(self, images, progress=None):
            return (same for _ in images)

        def seen(self, squares, attributes):
            return (np.repeat(same.logits, len(squares), axis=0),)

    measured = TASK.evaluate(Constant(), dataset, "test")
    assert "only 1 distinct value" in measured.metrics["auc_malignant"].note
    assert not next(gate for gate in TASK.gates if gate.name == "ranks_better_than_chance").check(measured).passed


def test_an_answer_decides_at_the_point_asked_for_and_shows_its_evidence(bundle, dataset):
    predictor = Classifier(bundle)
    image = dataset.image(dataset.split("test").iloc[0])
    point = next(p for p in predictor.card.operating_points if p.name == "recall_0.9")
    said = TASK.answer(predictor, image, {"point": "recall_0.9"})
    probability = said["probabilities"]["malignant"]
    assert said["decision"]["positive"] is (probability >= point.threshold)
    assert said["predicted"] == ("malignant" if said["decision"]["positive"] else "benign")
    assert said["decision"]["recall_at_least"] == point.sensitivity_low
    assert said["decision"]["positives"] == said["decision"]["groups"] == 30
    balanced = TASK.answer(predictor, image, {"point": "balanced"})["decision"]
    assert balanced["recall_at_least"] is None  # its threshold was searched for on the cases that would prove it
    assert "no recall is promised" in balanced["why"]
    default = TASK.answer(predictor, image, {})
    assert default["decision"]["point"] == POINT
    assert default["predicted"] == "undecided"  # 30 positives cannot bear a recall of 0.95
    assert (
        default["decision"]["why"]
        == "no decision at recall_0.95: 59 positive validation cases are needed, 30 are available"
    )
    with pytest.raises(ValueError, match=r"no operating point 'recall_0\.5'.*; the model has balanced, recall_0\.9"):
        TASK.answer(predictor, image, {"point": "recall_0.5"})


def test_the_probability_comes_with_the_prevalence_it_is_calibrated_to(bundle, dataset):
    """Half of the drawn lesions are cancers: whoever examines healthy people must see that."""
    said = TASK.answer(Classifier(bundle), dataset.image(dataset.split("test").iloc[0]), {})
    assert said["prevalence"] == dataset.targets(dataset.split("validation"))[:, 0].mean() == 0.5


def test_a_model_without_the_policy_s_point_answers_and_says_that_it_decides_nothing(bundle, dataset, resealed):
    """The policy may change after a model was trained: its requests must not fail all at once."""
    predictor = Classifier(resealed(bundle, unclaimed_points=()))
    said = TASK.answer(predictor, dataset.image(dataset.split("test").iloc[0]), {})
    assert said["predicted"] == "undecided"
    assert said["decision"]["why"] == (
        f"no decision: the policy decides at {POINT}, the model has balanced, recall_0.9"
    )
    assert f"operating point {POINT} is unknown to this model" in TASK.evaluate(predictor, dataset, "test").notes[-1]


def test_the_endpoint_takes_the_point_as_a_parameter(bundle, dataset):
    row = dataset.split("test").iloc[0]
    service = make_service(TASK, bundle, name="malignancy_screening_test")
    with TestClient(service.to_asgi(), base_url="http://127.0.0.1:3000") as client:
        headers = {"Content-Type": "application/octet-stream"}
        body = dataset.read(row)
        answer = client.post("/predict?point=recall_0.9", content=body, headers=headers).json()
        assert answer["decision"]["point"] == "recall_0.9"
        expected = Classifier(bundle)([decode(body)]).probabilities[0, 0]
        assert answer["probabilities"]["malignant"] == pytest.approx(expected, abs=1e-6)
        refused = client.post("/predict?point=recall_0.1", content=body, headers=headers)
        assert refused.status_code == 400
        assert "'point' must be one of balanced, recall_0.9" in refused.json()["error"]
        assert client.post("/explain", content=body, headers=headers).headers["content-type"] == "image/png"


def test_heatmaps_show_found_and_missed_cancers(bundle, dataset, evaluation, tmp_path):
    """What the sheet says of a picture is what was decided of it, at the threshold the service would use; its captions
    are text on a page, not letters of 6 pixels."""
    predictor = Classifier(bundle)
    made = TASK.artifacts[0].make(predictor, dataset, tmp_path)
    page = made["heatmaps_page"].read_text(encoding="utf-8")
    table = evaluation.predictions.set_index("id")
    flagged = table["p.malignant"] >= predictor.card.threshold("malignant", POINT)
    cells = [re.findall(r"<p[^>]*>(.*?)</p>", cell) for cell in page.split("<li")[1:]]
    told = {name: not said.endswith("not flagged") for name, said, _ in cells}
    assert all(said.startswith("✗ ") is (told[name] != (truth == "True: malignant")) for name, said, truth in cells)
    assert page.count("data:image/jpeg") == 2 * len(cells)  # the image beside its heatmap
    assert "Synthetic images: these results" in page
    assert told == {name: flagged[name] for name in told}
    cancers = [name for name in told if table.loc[name, "target.malignant"] == 1]
    assert len(cancers) == min(4, (flagged & (table["target.malignant"] == 1)).sum()) + min(
        4, (~flagged & (table["target.malignant"] == 1)).sum()
    )
    assert Image.open(made["heatmaps"]).height > 0


def test_a_bundle_moved_onto_its_own_test_split_is_not_opened(bundle, tmp_path):
    """Somebody who refits the threshold where it is judged gets a sentence instead of a service."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    stored = json.loads((copy / "bundle.json").read_text())
    stored["split_hashes"]["test"] = stored["operating_points"][0]["split_hash"]
    (copy / "bundle.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="fitted on the test split"):
        Bundle.open(copy)


@pytest.mark.parametrize("recipe", ["faithful_resnet18_plain", "faithful_resnet18", "faithful_resnext50"])
def test_the_faithful_recipes_are_the_original_to_the_number(recipe):
    """Task 3: Xavier head, BCE, Adam, 20 epochs, 2e-4, 2 of them warm-up, cosine; 256 (232) → 224."""
    chosen = TASK.recipe(recipe).flat()
    values = {
        "epochs": 20, "optimizer": "adam", "learning_rate": 2e-4, "warmup_epochs": 2.0, "schedule": "cosine",
        "head_init": "xavier", "hidden": [], "side": 224, "squaring": "crop", "pretrained": "auto",
        "class_balance": "none", "label_smoothing": 0.0, "weight_decay": 0.0, "views": "none",
        "smallest_side": 232 if "resnext" in recipe else 256,
        "backbone": "resnext50_32x4d" if "resnext" in recipe else "resnet18",
        "augmentation": "none" if "plain" in recipe else "screening",
    }  # fmt: skip
    assert {name: chosen[name] for name in values} == values


def test_the_augmented_original_trains_and_is_judged_on_the_centre_crop(dataset, tmp_path):
    recipe = TASK.recipe(
        "faithful_resnet18", pretrained="none", epochs=1, warmup_epochs=0.5, side=32, smallest_side=37, workers=0
    )
    card = Classifier(TASK.fit(dataset, recipe, tmp_path)).card
    assert (card.preprocessing.fit, card.preprocessing.side, card.preprocessing.smallest_side) == ("crop", 32, 37)
    assert card.head == "sigmoid"


def test_training_on_permuted_labels_gives_chance(dataset, tmp_path):
    """If this scored, the score would come from somewhere other than the pictures."""
    frame = dataset.manifest.copy()
    rng = np.random.default_rng(2)
    for split in ("train", "validation", "test"):
        rows = frame.index[frame["split"] == split]
        frame.loc[rows, "target.malignant"] = frame.loc[rng.permutation(rows), "target.malignant"].to_numpy()
    permuted = Dataset(dataset.path, dataset.info, frame)
    recipe = TASK.recipe("drawn", epochs=3, side=32, views="none", workers=0, keep="last")
    predictor = Classifier(TASK.fit(permuted, recipe, tmp_path))
    rows = permuted.split("test")
    scores = np.concatenate([predictor([permuted.image(row)]).logits for _, row in rows.iterrows()])[:, 0]
    assert estimate(auc, scores, permuted.targets(rows)[:, 0]) == pytest.approx(0.5, abs=0.2)  # 60 cases: 2.7 errors


def test_a_faithful_network_has_one_logit_and_a_xavier_head():
    import torch

    from derm_ml.nets.classifier import ClassifierNetwork

    torch.manual_seed(0)
    network = ClassifierNetwork("resnext50_32x4d", 1, "none", head_init="xavier")
    (layer,) = network.head.layers
    bound = (6 / (2048 + 1)) ** 0.5
    assert layer.weight.shape == (1, 2048)
    assert 0.98 * bound < layer.weight.abs().max() <= bound
    assert not layer.bias.any()


def table(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def ham10000(folder):
    """One picture of each diagnosis in the published layout."""
    diagnoses = ("mel", "nv", "bkl", "bcc", "akiec", "vasc", "df")
    rows = [[f"HAM_{k}", f"ISIC_{k}", dx, "histo", 50, "male", "back"] for k, dx in enumerate(diagnoses)]
    table(folder, "HAM10000_metadata.csv", [
        ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"], *rows
    ])  # fmt: skip
    (folder / "HAM10000_images").mkdir()
    for k in range(len(diagnoses)):
        Image.new("RGB", (8, 8)).save(folder / "HAM10000_images" / f"ISIC_{k}.jpg")


def malignant(reading) -> set[str]:
    return {s.attributes["diagnosis"] for s in reading.samples if s.target["malignant"] == 1}


def test_which_diagnoses_are_malignant_is_a_setting(tmp_path):
    ham10000(tmp_path)
    reading = TASK.read(tmp_path, TASK.settings())
    assert malignant(reading) == {"mel", "bcc", "akiec"}
    assert len(reading.samples) == 7
    assert malignant(TASK.read(tmp_path, TASK.settings(malignant=["mel", "bcc"]))) == {"mel", "bcc"}
    # nobody who lists carcinomas means to teach that melanoma is benign
    assert malignant(TASK.read(tmp_path, TASK.settings(malignant=["bcc"]))) == {"mel", "bcc"}
    assert malignant(TASK.read(tmp_path, TASK.settings(malignant=["bcc"], benign=["mel"]))) == {"bcc"}
    without = TASK.read(tmp_path, TASK.settings(malignant=["mel", "bcc"], left_out=["akiec"]))
    assert without.left_out == {"akiec": 1}
    assert {s.attributes["diagnosis"] for s in without.samples} == {"mel", "bcc", "nv", "bkl", "vasc", "df"}
    # what a setting names needs no list of everything else beside it
    assert malignant(TASK.read(tmp_path, TASK.settings(benign=["akiec"]))) == {"mel", "bcc"}
    assert TASK.read(tmp_path, TASK.settings(left_out=["akiec"])).left_out == {"akiec": 1}
    with pytest.raises(DataError, match="'mel' is listed as"):
        TASK.read(tmp_path, TASK.settings(malignant=["mel"], benign=["mel"]))


def test_the_real_ham10000_holds_1954_malignant_images(shared_data):
    reading = TASK.read(shared_data / "ham10000", TASK.settings())
    assert not reading.problems
    assert sum(s.target["malignant"] == 1 for s in reading.samples) == 1113 + 514 + 327
    assert len(reading.samples) == 10015
    assert len({s.lesion for s in reading.samples}) == 7470


def test_class_folders_and_isic_2017_are_read_too(tmp_path):
    for split, label in (("train", "Benign"), ("train", "Malignant"), ("test", "Benign"), ("test", "Malignant")):
        (tmp_path / "folders" / split / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "folders" / split / label / f"{split}_{label}.png")
    reading = TASK.read(tmp_path / "folders", TASK.settings())
    assert {s.id: (s.split, s.target["malignant"]) for s in reading.samples} == {
        "train_Benign": ("train", 0), "train_Malignant": ("train", 1),
        "test_Benign": ("test", 0), "test_Malignant": ("test", 1),
    }  # fmt: skip
    get_task("lesion_classification").draw(tmp_path / "isic", 6, seed=1)
    targets = {s.attributes["diagnosis"]: s.target["malignant"] for s in
               TASK.read(tmp_path / "isic", TASK.settings()).samples}  # fmt: skip
    assert targets == {"melanoma": 1, "nevus": 0, "seborrheic_keratosis": 0}


def test_a_set_of_cancers_alone_is_refused_before_training(dataset, tmp_path):
    frame = dataset.manifest.copy()
    frame["target.malignant"] = 1.0
    alone = Dataset(dataset.path, dataset.info, frame)
    finding = next(rule for rule in TASK.rules if rule.name == "every_class_in_every_split").check(alone)
    assert not finding.passed
    with pytest.raises(DataError, match="no image of anything but malignant"):
        TASK.fit(alone, TASK.recipe("drawn"), tmp_path)


def test_its_numbers_can_be_counted_and_predicted_again(evaluation, bundle, dataset, tmp_path):
    """Promotion believes neither the metrics nor the predictions that are stored."""
    save_report(evaluation, tmp_path / "evaluation")
    evidence = Evidence.read(TASK, bundle, tmp_path / "evaluation", dataset)
    assert (evidence.faults, evidence.flattered, evidence.red_data) == ((), (), ())
    assert evidence.value == evaluation.numbers[TASK.primary_metric]
    assert evidence.repeated == min(32, len(dataset.split("test")))


def test_the_report_gives_the_ppv_where_the_policy_says_the_model_is_used(monkeypatch):
    """A PPV of 0.8 at the prevalence of a test set says nothing to a screening programme with 3 cancers in 1000."""
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.3).astype(float)
    p, groups = np.clip(0.3 + 0.4 * y + 0.2 * rng.normal(size=400), 0, 1), np.arange(400)
    point = OperatingPoint(name="balanced", label="malignant", threshold=0.5, split_hash="v", sensitivity=0.9,
                           sensitivity_low=0.8, specificity=0.8, positives=100)  # fmt: skip
    measured = measure_point(point, p, y, groups)
    stated = Policy.of(TASK).model_copy(update={"prevalence": 0.003})
    monkeypatch.setattr("derm_ml.tasks.malignancy_screening.evaluate.Policy.of", lambda task: stated)
    rows = _prevalence_rows(measured, p, y, groups)
    assert [row["prevalence"] for row in rows][1] == "0.3 % (where the model is used)"
    expected = precision_at(measured.sensitivity.value, measured.specificity.value, 0.003)
    assert rows[1]["precision"] == pytest.approx(expected)
    assert rows[1]["precision"] < 0.1 < rows[0]["precision"]
