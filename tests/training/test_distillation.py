"""One network that learns the answers of another: it must learn them, from an honest teacher, and ask it only once."""

from __future__ import annotations

import shutil
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from derm_ml.bundles.bundle import Bundle, read_card
from derm_ml.bundles.classifier import Classifier
from derm_ml.cards.model_card import model_card
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.gates import distilled_answers_alike
from derm_ml.losses.distillation import soft_loss, taught_loss
from derm_ml.metrics.metric import Metric
from derm_ml.model_folder import ModelFolder
from derm_ml.progress import reading
from derm_ml.provenance import Provenance, rows
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.sentences import WrongValue
from derm_ml.training import distillation
from derm_ml.training.classifier_samples import select
from derm_ml.training.distillation import answers_of, taught_samples
from derm_ml.training.teacher import teacher_of, with_teacher_version

pytestmark = pytest.mark.slow  # trained networks, exported graphs

TASK = get_task("lesion_classification")


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    """An installation of which nobody else has asked anything."""
    for name in ("data", "out"):
        monkeypatch.setenv(f"DERM_{name.upper()}", str(tmp_path / name))
    return tmp_path / "out" / TASK.name


@pytest.fixture(scope="module")
def contrary(colour_model, tinted_dataset, made_once):
    """A teacher that takes each colour for the next one: whoever answers like it has not learned the labels."""
    return made_once("contrary", lambda folder: colour_model(folder, tinted_dataset, 1.0, evaluated=False))


def student_of(teacher, **values):
    small = {"side": 32, "training_side": 0, "workers": 0, "attributes": [], "augmentation": "flips", "batch_size": 8}
    network = {"backbone": "resnet18", "pretrained": "none", "learning_rate": 2e-3, "ema": 0.8}
    return TASK.recipe("distilled", **small | network | values, teacher=str(teacher))


@pytest.fixture(scope="module")
def models(contrary, tinted_dataset, made_once):
    """A folder of models: the contrary teacher, `strong-7`, and a student that follows it alone, `distilled-…`."""

    def make(folder):
        with pytest.MonkeyPatch.context() as places:
            places.setenv("DERM_OUT", str(folder / "out"))
            places.setenv("DERM_DATA", str(folder / "data"))
            models = folder / "out" / TASK.name
            shutil.copytree(contrary, models / "strong-7")
            recipe = with_teacher_version(student_of("strong-7", epochs=6, teacher_share=1.0), TASK.name)
            TASK.fit(tinted_dataset, recipe, ModelFolder.of(models, recipe, tinted_dataset.md5).path)

    return made_once("students", make) / "out" / TASK.name


def test_a_student_answers_as_its_teacher_does_and_not_as_the_labels_say(contrary, models, tinted_dataset):
    """Answers that were lost, or mixed up among the images, would show nowhere else: labels teach well enough."""
    (folder,) = models.glob("distilled-*")
    student = Classifier(folder / "bundle")
    unseen = tinted_dataset.split("test")
    images = [tinted_dataset.image(row) for row in unseen.to_dict("records")]
    said, taught = (model(images).logits.argmax(1) for model in (student, Classifier(contrary / "bundle")))
    labels = tinted_dataset.targets(unseen).argmax(1)
    assert (said == taught).mean() > 0.6
    assert (said == labels).mean() < 0.3


def test_the_answer_is_about_the_very_crop_that_is_learned(contrary, tinted_dataset):
    """With crops, teacher and student must see the same one, each at its own size."""
    recipe = student_of(contrary, side=64, augmentation="moderate", teacher_crops=3)
    chosen = select(tinted_dataset, with_teacher_version(recipe, TASK.name), lambda given: given)
    load = taught_samples(tinted_dataset, chosen, chosen.teacher, recipe)
    ForkingPickler.dumps(load)  # it goes to the worker processes of a training
    predictor, found = Classifier(contrary / "bundle"), {}
    for seed in range(12):
        image, _, _, answer = load(seed % 4, seed)
        shrunk = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(predictor.seen(shrunk[None])[0][0], answer, atol=0.35)
        found.setdefault(seed % 4, []).append(answer)
    other = [np.abs(a - b).max() for a, b in zip(found[0], found[1], strict=True)]
    assert max(other) > 1  # so that the tolerance tells one image from another


def test_who_was_killed_goes_on_asking_and_hears_the_very_same(contrary, tinted_dataset, tmp_path, monkeypatch):
    """An ensemble with its views may need hours for a large set."""
    asked, seen = SimpleNamespace(n=0, most=70), Classifier.seen

    def counted(self, squares, attributes=None):
        if asked.n == asked.most:
            raise KeyboardInterrupt
        asked.n += int(squares.min() < squares.max())  # a predictor tries itself with a blank image
        return seen(self, squares, attributes)

    monkeypatch.setattr(Classifier, "seen", counted)
    monkeypatch.setattr(distillation, "PAUSE", 0.0)
    recipe = with_teacher_version(student_of(contrary, teacher_crops=2), TASK.name)
    learned = tinted_dataset.split("train")
    told = []

    def ask():
        with reading(told.append):
            return answers_of(
                teacher_of(recipe, tinted_dataset), tinted_dataset, learned, recipe.image, recipe.patient, 2
            )

    with pytest.raises(KeyboardInterrupt):
        ask()
    asked.most = None
    found = ask()
    assert asked.n == 2 * len(learned) == 90
    assert "the teacher has answered 90 of 90 questions" in told[-1]
    np.testing.assert_array_equal(ask(), found)
    assert asked.n == 90
    monkeypatch.setenv("DERM_DATA", str(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(ask(), found)


def test_another_teacher_is_another_model_and_another_place_is_not(
    contrary, colour_model, tinted_dataset, installation, tmp_path
):
    """Else a student of a better teacher would be said to be there already."""

    def folder(teacher, **values):
        return ModelFolder.of(tmp_path, with_teacher_version(student_of(teacher, **values), TASK.name), "0").path.name

    good = colour_model(tmp_path / "good", tinted_dataset, 0.0, evaluated=False).parent
    copy = shutil.copytree(contrary, installation / "strong-0")
    version = Bundle.open(copy / "bundle").version
    assert folder(contrary) == folder(copy) == folder("strong-0") == folder(version)
    assert folder(contrary) == folder(contrary, teacher_version=version)
    assert len({folder(contrary), folder(good), folder(contrary, teacher_share=0.5)}) == 3
    recipe = with_teacher_version(student_of(copy), TASK.name)
    assert (recipe.distillation.teacher, recipe.distillation.teacher_version) == ("strong-0", version)
    shutil.rmtree(copy)
    shutil.copytree(good, copy)  # trained again in its folder
    with pytest.raises(DataError, match=f"the recipe names {version}: name the folder of that version"):
        with_teacher_version(recipe, TASK.name)
    assert not [name for name in TASK.recipe("strong").identity() if "teacher" in name]  # models of before


def test_a_teacher_that_may_know_the_test_images_is_refused(contrary, tinted_raw, tinted_images, tmp_path):
    """Its answers would carry them into the student, and the student's figures would be a memory."""

    def refusal(raw):
        with pytest.raises(DataError) as refused:
            TASK.fit(prepare(TASK, raw, TASK.settings(), tmp_path / f"{raw.name}_data"), student_of(contrary), out)
        assert not out.exists()
        return str(refused.value)

    out = tmp_path / "student"
    tinted_images(tmp_path / "more", seed=9, counts=(15, 10, 21))
    assert "was trained beside the test split" in refusal(tmp_path / "more")
    tinted_images(tmp_path / "renamed", seed=9)  # training images that have come under the names of the test images
    for learned in (tinted_raw / "train").rglob("*.png"):
        name = learned.name.replace("train", "test")
        shutil.copyfile(learned, tmp_path / "renamed" / "test" / learned.parent.name / name)
    assert "45 of the 60 test images" in refusal(tmp_path / "renamed")


def test_everything_about_a_student_names_its_teacher(contrary, models, tinted_dataset, installation):
    """And with 8-bit integers it is compared with its teacher again, and not trained again."""
    shutil.copytree(models, installation)
    student = ModelFolder(next(installation.glob("distilled-*")))
    card = read_card(student.bundle)
    recipe = TASK.recipe(card.recipe_name, **card.recipe)
    version, made = Bundle.open(contrary / "bundle").version, card.distilled
    assert (made.teacher, made.version, made.passes, made.images, made.unlabelled) == ("strong-7", version, 1, 45, 0)
    assert (made.n, made.split_hash) == (30, tinted_dataset.split_hashes["validation"])
    said = rows(Provenance.of(student, tinted_dataset.info))
    assert said["Teacher"] == f"strong-7 (version {version})"

    evaluation = TASK.evaluate(TASK.load(student.bundle), tinted_dataset)
    assert f"against its teacher strong-7 (version {version}" in evaluation.metrics["distilled_difference"].note
    assert TASK.gates[[gate.name for gate in TASK.gates].index("distilled_answers_alike")].check(evaluation).message
    page = model_card(TASK, Bundle.open(student.bundle), evaluation, tinted_dataset)
    assert f"strong-7, version {version}" in str(page)

    told = []
    small = TASK.fit(tinted_dataset, recipe.but(int8=True), installation / "small", told.append)
    assert told == []  # no epoch
    assert read_card(small).distilled.version == version
    assert read_card(small).quantisation is not None


def test_images_without_a_label_are_learned_too_but_none_of_a_judged_patient(retinal_trained, retinal_dataset):
    """They are what a small labelled set lacks; of a validation patient they would flatter the figures."""
    task = get_task("retinal_findings")
    recipe = task.recipe("distilled", teacher=str(retinal_trained), labelled_share=0.5)
    chosen = select(retinal_dataset, with_teacher_version(recipe, task.name), lambda targets: targets)
    untold = np.isnan(chosen.targets).all(axis=1)
    splits = chosen.rows.loc[untold, "split"].value_counts()
    assert splits["unlabelled"] == len(retinal_dataset.split("unlabelled"))
    assert splits["train"] > 0  # whose labels are put aside
    assert untold.sum() + (~untold).sum() == len(chosen.rows) > len(retinal_dataset.split("train"))
    judged = retinal_dataset.manifest.loc[retinal_dataset.manifest["split"].isin(["validation", "test"]), "group"]
    assert not set(chosen.rows["group"]) & set(judged)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_without_a_label_the_teacher_alone_is_followed(head):
    """An unknown label must teach nothing, not the first class."""
    torch.manual_seed(0)
    logits, answers = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    targets = torch.eye(3).repeat(2, 1)
    targets[3:] = torch.nan
    plain = {
        "softmax": lambda ours, labels: torch.nn.functional.cross_entropy(ours, labels.argmax(1)),
        "sigmoid": lambda ours, labels: torch.nn.functional.binary_cross_entropy_with_logits(ours, labels),
    }[head]
    assert soft_loss(answers, answers, 2.0, head).item() == pytest.approx(0, abs=1e-6)
    loss = taught_loss(logits, targets, answers, plain, 0.7, 2.0, head)
    soft, hard = soft_loss(logits, answers, 2.0, head), plain(logits[:3], targets[:3])
    assert loss.item() == pytest.approx((0.7 * soft + 0.3 * hard / 2).item())
    untold = taught_loss(logits[3:], targets[3:], answers[3:], plain, 0.7, 2.0, head)
    assert untold.item() == pytest.approx(0.7 * soft_loss(logits[3:], answers[3:], 2.0, head).item())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("low", "high", "passed", "evaluable"),
    [
        (-0.004, 0.02, True, True),
        (-0.03, 0.01, False, False),
        (-0.03, -0.01, False, True),
        (-0.004, -0.001, True, True),
    ],
)
def test_too_few_images_are_not_called_a_failure_nor_a_success(low, high, passed, evaluable):
    """149 images cannot show 0.005: to refuse for it would refuse every student, to pass would hide it."""
    said = Metric((low + high) / 2, low, high, 149, "on validation")
    finding = distilled_answers_alike(SimpleNamespace(metrics={"distilled_difference": said}))
    assert (finding.passed, finding.evaluable) == (passed, evaluable)
    if not evaluable:
        assert "149 validation images tell differences of 0.020 and more, 2,384 would tell 0.005" in finding.message
    assert distilled_answers_alike(SimpleNamespace(metrics={})).passed


def test_a_recipe_that_needs_a_teacher_says_so_before_anything_is_read():
    with pytest.raises(WrongValue, match="the recipe distilled learns the answers of a trained model, its teacher"):
        with_teacher_version(TASK.recipe("distilled"), TASK.name)
    with pytest.raises(WrongValue, match="teacher=nowhere: there is no trained model; give the path"):
        with_teacher_version(TASK.recipe("strong", teacher="nowhere"), TASK.name)
