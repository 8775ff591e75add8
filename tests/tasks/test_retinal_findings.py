"""retinal_findings from end to end on drawn eyes: every finding by itself, pseudo-labels only if they help."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from derm_ml.asking.form import form_body
from derm_ml.asking.pair import Pair
from derm_ml.bundles.bundle import Bundle
from derm_ml.bundles.classifier import Classifier, concatenate
from derm_ml.evaluation.gates import pseudo_labels_helped
from derm_ml.evaluation.report import save as save_report
from derm_ml.explain.panels import COLUMN, GAP
from derm_ml.promotion.evidence import Evidence
from derm_ml.registry import get_task
from derm_ml.synthetic.fundus import draw_fundus
from derm_ml.tasks.retinal_findings.train import _against_normal
from derm_ml.training.pseudo_labels import propose, write_proposal

pytestmark = pytest.mark.slow

TASK = get_task("retinal_findings")
LABELS = TASK.labels


@pytest.fixture(scope="module")
def predictor(retinal_trained) -> Classifier:
    return Classifier(retinal_trained / "bundle")


@pytest.fixture(scope="module")
def evaluation(predictor, retinal_dataset):
    return TASK.evaluate(predictor, retinal_dataset, "test")


def test_unlabelled_eyes_are_in_no_split_and_findings_nobody_has_are_named(retinal_dataset):
    assert retinal_dataset.info["sizes"]["unlabelled"] == len(retinal_dataset.split("unlabelled")) > 0
    assert retinal_dataset.info["left_out"]["macular_edema"] == 0
    assert retinal_dataset.labels == LABELS
    assert all(rule.check(retinal_dataset).passed for rule in TASK.rules)


def test_all_findings_with_enough_positives_are_modelled_where_none_are_named(retinal_raw):
    reading = TASK.read(retinal_raw, TASK.settings(findings=[], minimum_positives=5))
    assert set(reading.labels) > set(LABELS)
    assert "macular_edema" not in reading.labels
    few = TASK.read(retinal_raw, TASK.settings(findings=["glaucoma", "macular_edema"]))
    assert few.labels == ("glaucoma",)
    assert few.left_out["macular_edema"] == 0


def test_the_report_has_every_finding_by_itself(evaluation, predictor):
    assert set(evaluation.numbers) >= {"auc_mean", "average_precision_mean", *(f"auc_{label}" for label in LABELS)}
    assert all(f"sensitivity_{label}_at_specificity_0.9" in evaluation.metrics for label in LABELS)
    assert {"co_occurrence", "reliability", *(f"heatmaps_{label}" for label in LABELS)} <= set(evaluation.figures)
    assert {row["attribute"] for row in evaluation.tables["subgroups"]} >= {"age", "sex", "eye"}
    rows = {row["label"]: row for row in evaluation.tables["co_occurrence"]}
    truth = evaluation.predictions
    both = (truth["target.glaucoma"] == 1) & (truth["target.diabetic_retinopathy"] == 1)
    assert rows["glaucoma"]["diabetic_retinopathy"] == both.sum()
    assert rows["normal"]["glaucoma"] == 0 < rows["normal"]["normal"]
    assert len(predictor.card.temperatures) == len(predictor.card.bias) == len(LABELS)


def test_heatmaps_are_asked_about_of_each_finding_inside_the_field_of_view(evaluation):
    """Without a lesion mask, only what a network loses by covering says whether its heatmap means anything."""
    names = ("deletion_gain", "insertion_gain", "order_gain", "random_head_correlation")
    assert {*names, *(f"{name}_{label}" for name in names for label in LABELS)} <= set(evaluation.metrics)
    assert not {name for name in evaluation.metrics if name.startswith("heat_")}, "no lesion's place is known"
    rows = evaluation.tables["explanations"]
    assert [row["cells_covered"] for row in rows] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    gate = next(gate for gate in TASK.gates if gate.name == "heatmaps_are_faithful")
    found = gate.check(evaluation)
    assert not gate.blocking
    assert "rank correlation with random heads" in found.message
    assert [row["finding"] for row in found.rows] == list(LABELS)


def test_the_answer_gives_probability_threshold_and_decision_of_every_finding(predictor):
    images = (draw_fundus(["diabetic_retinopathy"], seed, side=200).image for seed in range(11, 31))
    said = next(answer for answer in (TASK.answer(predictor, i, {}) for i in images) if not answer["abstained"])
    for label in LABELS:
        assert said["decisions"][label] == (said["probabilities"][label] >= said["thresholds"][label])
    there = [label for label in LABELS if said["decisions"][label]]
    assert said["present"] == (" + ".join(there) or "none")


def test_each_finding_has_its_own_map_and_an_unasked_one_shows_all_that_are_present(predictor):
    image = draw_fundus(["diabetic_retinopathy", "glaucoma"], 12, side=200).image
    one, other = (TASK.explain(predictor, image, {"label": label}) for label in ("glaucoma", "normal"))
    np.testing.assert_array_equal(one[:200, :200], image)
    assert not np.array_equal(one[:200], other[:200])
    present = max(1, sum(TASK.answer(predictor, image, {})["decisions"].values()))
    assert TASK.explain(predictor, image, {}).shape[1] == (1 + present) * (COLUMN + GAP) - GAP
    with pytest.raises(ValueError, match="no label 'wart'"):
        TASK.explain(predictor, image, {"label": "wart"})


def test_the_endpoint_answers_as_the_evaluation_did(retinal_trained, retinal_dataset, evaluation):
    from serving.factory import make_service

    rows = retinal_dataset.split("test")
    number = int(np.flatnonzero(retinal_dataset.fellows(rows) >= 0)[0])
    row, other = rows.iloc[number], rows.iloc[retinal_dataset.fellows(rows)[number]]
    assert (row["patient"], {row["attribute.eye"], other["attribute.eye"]}) == (other["patient"], {"left", "right"})
    service = make_service(TASK, retinal_trained / "bundle", name="retinal_test")
    with TestClient(service.to_asgi(), base_url="http://127.0.0.1") as client:
        body = retinal_dataset.read(row)
        both, kind = form_body({"first": body, "second": retinal_dataset.read(other)})
        said = client.post("/predict", content=both, headers={"content-type": kind}).json()
        alone = client.post("/predict", content=body, headers={"content-type": "image/jpeg"}).json()
        shown = client.post("/explain?label=glaucoma", content=both, headers={"content-type": kind})
        alike = client.post("/similar", content=both, headers={"content-type": kind})
        drawn = client.post("/explain?label=glaucoma", content=body, headers={"content-type": "image/jpeg"})
        wrong = client.post("/explain?label=wart", content=body, headers={"content-type": "image/jpeg"})
    measured = evaluation.predictions.set_index("id").loc[row["id"]]
    assert all(said["probabilities"][label] == pytest.approx(measured[f"p.{label}"], abs=1e-5) for label in LABELS)
    picture = cv2.imdecode(np.frombuffer(drawn.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 2 * max(COLUMN, row["image.width"]) + GAP
    assert wrong.status_code == 400
    assert set(alone["fellow_share"].values()) == {0.0}
    assert tuple(said["fellow_share"].values()) == Bundle.open(retinal_trained / "bundle").card.fellow
    assert shown.status_code == 200
    assert alike.status_code in (415, 503), "an index is searched by one picture"


def test_the_other_eye_counts_where_its_photo_is_there_and_only_there(retinal_trained, retinal_dataset, resealed):
    share = np.array([0.25, 0.1, 0.0])
    predictor = Classifier(resealed(retinal_trained / "bundle", fellow=tuple(share)))
    rows = retinal_dataset.split("test")
    alone = concatenate(predictor.batches((retinal_dataset.image(row), {}) for _, row in rows.iterrows()))
    fellows = retinal_dataset.fellows(rows)
    fellows[0] = -1
    told = predictor.with_fellows(alone, fellows)
    np.testing.assert_array_equal(told.logits[0], alone.logits[0])
    k = int(np.flatnonzero(fellows >= 0)[-1])
    np.testing.assert_allclose(told.logits[k], (1 - share) * alone.logits[k] + share * alone.logits[fellows[k]], 1e-4)
    both = Pair(*(retinal_dataset.image(rows.iloc[i]) for i in (k, fellows[k])))
    said = TASK.answer(predictor, both, {})
    assert said["fellow_share"] == dict(zip(LABELS, share, strict=True))
    assert list(said["probabilities"].values()) == pytest.approx(told.probabilities[k].tolist(), abs=1e-5)
    assert (retinal_dataset.fellows(rows.drop(columns="attribute.eye")) == -1).all()


def test_against_normal_hides_the_absence_of_a_finding_in_eyes_with_others():
    nan = float("nan")
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    expected = [[1, nan, 0], [nan, 1, 0], [0, 0, 1], [nan, nan, 0]]
    np.testing.assert_array_equal(_against_normal(targets, LABELS), np.array(expected, np.float32))


BFLOAT = {"precision": "bf16-mixed"}  # as on a graphics card


@pytest.mark.parametrize(
    ("recipe", "values"),
    [
        ("faithful", {"hidden": (16,), "side": 96, "contrast": "clahe"}),
        ("one_vs_normal", {"backbone": "resnet18", "pretrained": "none", "side": 32, "contrast": "ben_graham"}),
        ("strong_gpu", {"backbone": "convnext_atto", "pretrained": "none", "side": 64, "compile": False, **BFLOAT}),
    ],
)
def test_every_recipe_trains_and_serves_what_it_was_trained_on(recipe, values, retinal_dataset, tmp_path):
    chosen = TASK.recipe(recipe, epochs=1, workers=0, views="none", **values)
    predictor = Classifier(TASK.fit(retinal_dataset, chosen, tmp_path))
    rule = predictor.card.preprocessing
    assert (rule.channel, rule.contrast) == (chosen.image.channel, chosen.image.contrast)
    assert predictor([retinal_dataset.image(retinal_dataset.split("test").iloc[0])]).maps.shape[1] == len(LABELS)


def test_pseudo_labels_are_judged_and_the_outcome_is_in_the_report_either_way(retinal_dataset, tmp_path):
    """Wrong labels are slipped in on purpose: the student must not pass."""
    settings = {"epochs": 1, "side": 48, "workers": 0, "views": "none", "labelled_share": 0.5}
    teacher = Classifier(TASK.fit(retinal_dataset, TASK.recipe("drawn", **settings), tmp_path / "teacher"))
    proposal = propose(teacher, retinal_dataset)
    truths = proposal.table[[f"truth.{label}" for label in LABELS]].to_numpy()
    for k, label in enumerate(LABELS):
        proposal.table[f"pseudo.{label}"] = 1 - truths[:, k]
    proposal.table["used"] = ~np.isnan(truths).any(axis=1)
    made = write_proposal(proposal, teacher, retinal_dataset, tmp_path / "table")
    taught = TASK.recipe("drawn", **settings, pseudo_labels=str(made["pseudo_labels"]))
    student = Classifier(TASK.fit(retinal_dataset, taught, tmp_path / "student"))
    outcome = student.card.pseudo_labels
    assert outcome is not None
    assert outcome.images == proposal.used > 0
    assert outcome.teacher == teacher.bundle.version
    assert not outcome.accepted
    evaluation = TASK.evaluate(student, retinal_dataset, "test")
    assert evaluation.metrics["pseudo_label_gain"].low == pytest.approx(outcome.low)
    assert {row["slice"] for row in evaluation.tables["pseudo_labels"]} == {
        "hidden validation images", "training images whose label was put aside"
    }  # fmt: skip
    assert not pseudo_labels_helped(evaluation).passed
    assert pseudo_labels_helped(TASK.evaluate(teacher, retinal_dataset, "test")).passed


def test_its_numbers_can_be_counted_and_predicted_again(evaluation, retinal_trained, retinal_dataset, tmp_path):
    """Promotion believes neither the metrics nor the predictions that are stored."""
    save_report(evaluation, tmp_path / "evaluation")
    evidence = Evidence.read(TASK, retinal_trained / "bundle", tmp_path / "evaluation", retinal_dataset)
    assert (evidence.faults, evidence.flattered, evidence.red_data) == ((), (), ())
    assert evidence.value == evaluation.numbers[TASK.primary_metric]
    assert evidence.repeated == min(32, len(retinal_dataset.split("test")))
