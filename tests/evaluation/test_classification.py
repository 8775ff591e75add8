"""One call measures a classifier: promotion, the report and the Dagster page rest on what it returns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as reference

from derm_ml.asking.answers import Fitness
from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Outputs
from derm_ml.data.dataset import Dataset
from derm_ml.data.splits import split_hash
from derm_ml.evaluation.classification import evaluate_classification
from derm_ml.evaluation.gates import calibrated_within
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import save as save_report
from derm_ml.images.condition import in_picture
from derm_ml.images.settings import Preprocessing
from derm_ml.metrics.points import OperatingPoint, UnclaimedPoint
from derm_ml.predictions.classifier import Predictions
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long

LABELS = ("melanoma", "nevus", "seborrheic_keratosis")
TASK = SimpleNamespace(name="lesion_classification", title="Lesions", negative="none")
HASH = "0" * 16


def point(label: str, name: str = "recall_0.9", threshold: float = 0.3, hash_: str = HASH) -> OperatingPoint:
    return OperatingPoint(
        name=name, label=label, threshold=threshold, split_hash=hash_, sensitivity=0.9, sensitivity_low=0.8,
        specificity=0.7, positives=20,
    )  # fmt: skip


def card(head: str = "softmax", labels=LABELS, points=(), hashes=None) -> BundleCard:
    return BundleCard(
        task=TASK.name, recipe_name="strong", recipe={"seed": 0}, labels=labels, head=head,
        preprocessing=Preprocessing(side=32, store_side=64), operating_points=points, dataset_md5="m.dir",
        split_hashes=hashes or {}, backbone="small", pretrained="none", epochs=1, git_commit="abc",
    )  # fmt: skip


def drawn(n: int = 120, head: str = "softmax", labels=LABELS, seed: int = 0):
    rng = np.random.default_rng(seed)
    if head == "softmax":
        y = np.eye(len(labels))[rng.integers(0, len(labels), n)]
    else:
        y = (rng.random((n, len(labels))) < 0.4).astype(float)
    logits = (rng.normal(size=(n, len(labels))) + 1.5 * y).astype(np.float32)
    frame = pd.DataFrame(
        {
            "id": [f"case {i}" for i in range(n)],
            "group": [f"patient {i // 2}" for i in range(n)],
            "attribute.age": rng.integers(10, 90, n).astype(float),
            "attribute.sex": rng.choice(["male", "female", ""], n),
            **{f"target.{label}": y[:, k] for k, label in enumerate(labels)},
        }
    )
    looks = np.zeros((n, 5), np.float32)
    p = softmax(logits, axis=1) if head == "softmax" else expit(logits)
    return frame, Outputs(logits, p.astype(np.float32), logits, logits[:, :, None, None], looks)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A dataset folder whose one shard holds one picture: every row of `drawn` shows it."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "shards").mkdir()
    picture = cv2.imencode(".png", np.full((40, 30, 3), 90, np.uint8))[1].tobytes()
    (folder / "shards" / "00000.tar").write_bytes(picture)
    (folder / "dataset.json").write_text("{}")
    return folder


@pytest.fixture
def evaluated(stored):
    """`evaluated(frame, outputs)`: the evaluation of a classifier that says so of these cases."""

    def evaluate(frame, outputs, the_card=None, split="test", task=TASK, **more) -> Evaluation:
        the_card = the_card or card()
        size = (stored / "shards" / "00000.tar").stat().st_size
        place = {"image.shard": "00000.tar", "image.offset": 0, "image.size": size}
        info = {"task": task.name, "sizes": {split: len(frame)}, "licences": {"CC0-1.0": len(frame)}}
        dataset = Dataset(stored, info, frame.assign(split=split, **place))
        classifier = SimpleNamespace(
            card=the_card,
            bundle=SimpleNamespace(card=the_card, version="v1", path=Path("no model folder", "bundle")),
            fitness=lambda said: [Fitness()] * len(said),
            unsquared=lambda cam, image: in_picture(cam, image, the_card.preprocessing),
        )
        predictions = Predictions(dataset, split, dataset.split(split), outputs)
        return evaluate_classification(task, classifier, predictions, **more)

    return evaluate


def test_numbers_are_those_of_scikit_learn(evaluated):
    frame, outputs = drawn()
    y, p = frame[[f"target.{label}" for label in LABELS]].to_numpy(), outputs.probabilities
    scored = ("melanoma", "seborrheic_keratosis")
    found = evaluated(frame, outputs, scored_labels=scored).numbers
    areas = {label: reference.roc_auc_score(y[:, k], p[:, k]) for k, label in enumerate(LABELS)}
    truth, guess = y.argmax(axis=1), p.argmax(axis=1)
    assert list(found)[:3] == ["auc_mean", "auc_melanoma", "auc_seborrheic_keratosis"]  # the headline of the report
    assert "auc_nevus" not in found  # not part of the official score
    assert found["auc_mean"] == pytest.approx(np.mean([areas[label] for label in scored]))
    assert found["auc_melanoma"] == pytest.approx(areas["melanoma"])
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, guess))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, guess))
    expected = reference.average_precision_score(y[:, 0], p[:, 0])
    assert found["average_precision_melanoma"] == pytest.approx(expected)
    assert found["brier"] == pytest.approx(((p - y) ** 2).mean(), abs=1e-6)


def test_it_can_be_saved_shown_and_read_back(evaluated, tmp_path):
    frame, outputs = drawn()
    result = evaluated(frame, outputs, card(points=(point("melanoma"),)))
    loaded = Evaluation.load(save_report(result, tmp_path / "e"))
    assert loaded.summary() == result.summary()
    assert (result.n, result.n_patients) == (120, 60)
    assert set(result.figures) >= {"roc", "confusion_matrix", "reliability", "confident_mistakes"}
    assert all(png.startswith(b"\x89PNG") and len(png) < 150_000 for png in result.figures.values())
    assert set(result.captions) >= set(result.figures)
    assert list(loaded.predictions["id"]) == list(frame["id"])
    stored = loaded.predictions[[f"p.{label}" for label in LABELS]].to_numpy()
    assert np.abs(stored - outputs.probabilities).max() == 0  # the endpoint is compared with these


def test_a_page_does_not_grow_with_the_cases(evaluated, tmp_path):
    """One of 100,000 cases must open in a browser."""
    sizes = []
    for n in (120, 2400):
        page = save_report(evaluated(*drawn(n)), tmp_path / f"{n}") / "report.html"
        sizes.append(page.stat().st_size)
    assert sizes[1] < 1.3 * sizes[0] < 1_000_000


def test_operating_points_are_measured_where_they_were_not_fitted(evaluated):
    frame, outputs = drawn()
    the_card = card(points=(point("melanoma"), point("nevus", "balanced", 0.5)))
    result = evaluated(frame, outputs, the_card)
    y, flagged = frame["target.melanoma"] == 1, outputs.probabilities[:, 0] >= 0.3
    assert result.value("sensitivity_melanoma_at_recall_0.9") == pytest.approx(flagged[y].mean())
    assert result.value("specificity_melanoma_at_recall_0.9") == pytest.approx((~flagged[~y]).mean())
    assert result.metrics["sensitivity_melanoma_at_recall_0.9"].n == y.sum()
    assert [row["point"] for row in result.tables["operating_points"]] == ["recall_0.9", "balanced"]


def test_a_point_fitted_on_this_test_split_is_refused(evaluated):
    frame, outputs = drawn()
    here = split_hash(dict.fromkeys(frame["id"], "test"), "test")
    with pytest.raises(ValueError, match="was fitted on the test split"):
        evaluated(frame, outputs, card(points=(point("melanoma", hash_=here),)))


def test_split_hash_is_that_of_the_dataset_and_a_foreign_split_is_noted(evaluated):
    """A test split the model was not kept apart from may hold its training images."""
    frame, outputs = drawn()
    here = split_hash(dict.fromkeys(frame["id"], "test"), "test")
    own = evaluated(frame, outputs, card(hashes={"test": here}))
    assert (own.split_hash, own.notes) == (here, ())
    foreign = evaluated(frame, outputs, card(hashes={"test": HASH}))
    assert "not the test split the model was kept apart from" in foreign.notes[0]
    assert "figures flatter" in evaluated(frame, outputs, split="validation").notes[0]


def test_independent_labels_with_unknown_targets(evaluated):
    frame, outputs = drawn(200, "sigmoid")
    frame.loc[:79, "target.nevus"] = np.nan
    result = evaluated(frame, outputs, card("sigmoid", points=(point("nevus", "balanced", 0.4),)))
    known = frame["target.nevus"].notna()
    y, p = frame["target.nevus"][known], outputs.probabilities[known, 1]
    assert result.value("auc_nevus") == pytest.approx(reference.roc_auc_score(y, p))
    assert result.metrics["auc_nevus"].n == 120
    halves = []
    for k, (label, cut) in enumerate(zip(LABELS, (0.5, 0.4, 0.5), strict=True)):
        there = frame[f"target.{label}"].notna()
        guess = outputs.probabilities[there, k] >= cut
        halves.append(reference.balanced_accuracy_score(frame[f"target.{label}"][there], guess))
    assert result.value("balanced_accuracy") == pytest.approx(np.mean(halves))
    assert "80 of 200 cases" in " ".join(result.notes)
    assert "confusion_matrix" not in result.tables  # three independent labels have no common one
    for row in result.tables["confident_mistakes"]:
        assert {row["truth"], row["predicted"]} in [{label, f"not_{label}"} for label in LABELS]


def test_one_label_alone_has_a_confusion_matrix_and_no_mean(evaluated):
    frame, outputs = drawn(80, "sigmoid", ("malignant",))
    result = evaluated(frame, outputs, card("sigmoid", ("malignant",)))
    assert "auc_mean" not in result.metrics
    assert next(iter(result.metrics)) == "auc_malignant"
    assert [row["truth"] for row in result.tables["confusion_matrix"]] == ["not_malignant", "malignant"]
    assert sum(row[c] for row in result.tables["confusion_matrix"] for c in ("not_malignant", "malignant")) == 80


def test_confident_mistakes_are_wrong_and_sorted(evaluated):
    frame, outputs = drawn()
    rows = evaluated(frame, outputs).tables["confident_mistakes"]
    truth = dict(
        zip(frame["id"], frame[[f"target.{label}" for label in LABELS]].to_numpy().argmax(axis=1), strict=True)
    )
    assert rows
    assert all(LABELS[truth[row["id"]]] == row["truth"] != row["predicted"] for row in rows)
    assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)


def test_missed_positives_and_false_alarms_share_the_gallery(evaluated):
    """At a threshold for high recall the few misses are the surest; false alarms must not vanish, nor the misses."""
    frame, outputs = drawn(300, "sigmoid", ("malignant",))
    for threshold in (0.02, 0.3, 0.9):
        the_card = card("sigmoid", ("malignant",), points=(point("malignant", "balanced", threshold),))
        rows = evaluated(frame, outputs, the_card).tables["confident_mistakes"]
        flagged, y = outputs.probabilities[:, 0] >= threshold, frame["target.malignant"] == 1
        misses, alarms = int((~flagged & y).sum()), int((flagged & ~y).sum())
        shown = sum(row["truth"] == "malignant" for row in rows)
        assert len(rows) == min(18, misses + alarms)
        assert shown >= min(9, misses)
        assert len(rows) - shown >= min(9, alarms)


def test_a_class_that_does_not_occur_is_undefined_not_nan(evaluated, tmp_path):
    frame, outputs = drawn()
    frame["target.nevus"] += frame["target.seborrheic_keratosis"]
    frame["target.seborrheic_keratosis"] = 0.0
    result = evaluated(frame, outputs, card(points=(point("seborrheic_keratosis"),)))
    assert result.value("auc_seborrheic_keratosis") is None
    assert result.value("auc_mean") is None
    assert result.value("sensitivity_seborrheic_keratosis_at_recall_0.9") is None
    assert result.value("auc_melanoma") is not None
    save_report(result, tmp_path / "e")


def test_a_split_of_two_cases_is_still_a_report(evaluated, tmp_path):
    frame, outputs = drawn(2)
    result = evaluated(frame, outputs)
    save_report(result, tmp_path / "e")
    assert result.metrics["accuracy"].n == 2


def test_predictions_of_other_cases_are_refused(evaluated):
    frame, outputs = drawn()
    with pytest.raises(ValueError, match=r"shape \(120, 3\), the split needs \(119, 3\)"):
        evaluated(frame.iloc[1:], outputs)
    with pytest.raises(ValueError, match="no cases"):
        evaluated(frame.iloc[:0], outputs)
    with pytest.raises(ValueError, match="not among the model's"):
        evaluated(frame, outputs, scored_labels=("melanom",))
    with pytest.raises(ValueError, match="softmax or sigmoid"):
        evaluated(frame, outputs, card("mask"))


def test_a_broken_model_fails_loudly(evaluated):
    frame, outputs = drawn()
    outputs.logits[7, 1] = np.nan
    with pytest.raises(ValueError, match="1 predictions are not finite, the first is that of case 7"):
        evaluated(frame, outputs)


def test_a_constant_model_is_measured_and_its_gate_is_red(evaluated, tmp_path):
    """A collapsed network is a finding to be shown, not a crash that hides it."""
    frame, outputs = drawn()
    flat = np.full_like(outputs.probabilities, 1 / 3)
    same = replace(outputs, logits=np.zeros_like(outputs.logits), probabilities=flat)
    result = evaluated(frame, same)
    assert result.value("auc_mean") is None
    assert "120 cases have only 1 distinct value" in result.metrics["auc_melanoma"].note
    gate = next(g for g in get_task("lesion_classification").gates if g.name == "ranks_better_than_chance")
    assert not gate.check(result).passed
    save_report(result, tmp_path / "e")


def test_unknown_targets_are_no_negatives_where_scores_do_not_rank(evaluated):
    frame, outputs = drawn(100, "sigmoid")
    frame.loc[:39, "target.nevus"] = np.nan
    outputs.probabilities[:, 1] = 0.5
    result = evaluated(frame, outputs, card("sigmoid"))
    row = next(row for row in result.tables["per_label"] if row["label"] == "nevus")
    y = frame["target.nevus"]
    assert (row["n"], row["positives"], row["negatives"]) == (60, (y == 1).sum(), (y == 0).sum())


@pytest.mark.parametrize(("n", "boast", "passed"), [(40, 0.0, True), (40, 0.45, False), (2000, 0.0, True)])
def test_the_gate_of_calibration_knows_what_chance_gives(evaluated, n, boast, passed):
    """40 cases of a perfectly calibrated model measure an ECE above the limit of 0.10, and that is no fault of it."""
    rng = np.random.default_rng(2)
    p = rng.random(n)
    frame, outputs = drawn(n, "sigmoid", ("malignant",))
    frame["group"] = frame["id"]
    frame["target.malignant"] = (rng.random(n) < np.clip(p - boast, 0, 1)).astype(float)
    said = replace(outputs, logits=np.log(p / (1 - p))[:, None], probabilities=p[:, None])
    result = evaluated(frame, said, card("sigmoid", ("malignant",)))
    if n == 40:
        assert result.value("ece") > 0.10
    finding = calibrated_within(0.10, result)
    assert finding.passed is passed
    assert "by chance" in finding.message


def test_a_task_s_own_word_for_negative_is_used_and_decisions_are_at_the_chosen_point(evaluated):
    frame, outputs = drawn(80, "sigmoid", ("malignant",))
    the_card = card("sigmoid", ("malignant",), points=(point("malignant", "recall_0.9", 0.3),))
    task = SimpleNamespace(name="malignancy_screening", title="Benign or malignant", negative="benign")
    result = evaluated(frame, outputs, the_card, task=task, decided_at="recall_0.9")
    counts = {row["truth"]: row for row in result.tables["confusion_matrix"]}
    assert set(counts) == {"benign", "malignant"}
    flagged, y = outputs.probabilities[:, 0] >= 0.3, frame["target.malignant"] == 1
    assert counts["malignant"]["malignant"] == (flagged & y).sum()
    assert counts["benign"]["malignant"] == (flagged & ~y).sum()


def test_a_recall_that_could_not_be_fitted_is_undefined_with_its_reason(evaluated):
    frame, outputs = drawn(80, "sigmoid", ("malignant",))
    short = UnclaimedPoint(
        name="recall_0.999", label="malignant", recall=0.999, split_hash=HASH, positives=213, needed=2995
    )
    the_card = card("sigmoid", ("malignant",)).model_copy(update={"unclaimed_points": (short,)})
    metric = evaluated(frame, outputs, the_card).metrics["sensitivity_malignant_at_recall_0.999"]
    assert metric.value is None
    assert "2,995 positive validation cases are needed, 213 are available" in metric.note
