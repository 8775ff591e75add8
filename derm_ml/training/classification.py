"""Train a classifier on a dataset and seal it into a bundle: what every classification task's `fit` does.

select rows and targets (classifier_samples.py)
→ with a teacher: ask it about them (teacher.py, distillation.py)
→ train network(s), best weights by the validation split (classifier_validation.py, loop.py, members.py)
→ seal the graph (with int8: quantisation.py) → calibrate it on the validation split (classifier_calibration.py)
   or on local cases (local_cases.py) → bundle
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from derm_ml.bundles.bundle import Bundle, BundleCard, seal, writing_bundle
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.data.dataset import Dataset
from derm_ml.losses.distillation import taught_loss
from derm_ml.metrics.classification import mean_auc
from derm_ml.metrics.heads import ClassifierHead
from derm_ml.model_folder import ModelFolder
from derm_ml.nets.backbones import describe_weights
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.predictions.classifier import keep, predict_rows
from derm_ml.progress import OnEpoch
from derm_ml.provenance import git_commit, note_training, note_training_of
from derm_ml.ranks import this_rank
from derm_ml.sentences import WrongValue
from derm_ml.training.classifier_calibration import CalibrationLogits, calibrated_card
from derm_ml.training.classifier_samples import Selected, Targets, balance, preprocessing, select, training_samples
from derm_ml.training.classifier_validation import best_by, loss_named_by, validation
from derm_ml.training.distillation import from_teacher, taught_samples
from derm_ml.training.export import export_classifier
from derm_ml.training.feeding import LoadSample
from derm_ml.training.input_gate import GateImages, fit_gate, some_of
from derm_ml.training.local_cases import Local, local_cases
from derm_ml.training.loop import Fitted, Loss, fit_network
from derm_ml.training.members import Trained, fit_members
from derm_ml.training.pseudo_labels import judged
from derm_ml.training.quantisation import quantisation_of, quantise, require_convolutions
from derm_ml.training.settings import ClassifierRecipe, Patient
from derm_ml.training.teacher import with_teacher_version
from derm_ml.training.twins import finished_twin, take_over


def _all_targets(targets: np.ndarray) -> np.ndarray:
    return targets


@dataclass(frozen=True, slots=True)
class Aim:
    """What a task wants of its classifier.

    `head`: softmax where the labels exclude each other, sigmoid where they are independent;
    `scored`: the labels whose (mean) AUC on the validation split chooses the best epoch;
    `recalls`: those an operating point is fitted for;
    `training_targets` may hide some of the targets (N, L) from training by making them NaN, where labels are
    independent.
    """

    head: ClassifierHead
    scored: Sequence[str]
    recalls: Sequence[float] = (0.90, 0.95)
    training_targets: Targets = _all_targets


def fit_classifier(dataset: Dataset, recipe: ClassifierRecipe, aim: Aim, out: Path, on_epoch: OnEpoch) -> Path:
    """Train (or resume) in `out` and return `out/bundle`.

    Raises `DataError` if a split or a label has no images, or the teacher is of other splits; `TrainingError` if
    training fails.
    """
    model = ModelFolder(out)
    if model.finished:  # the folder names recipe and data: this is the same model
        return model.bundle
    recipe = with_teacher_version(recipe, dataset.task)
    selected = select(dataset, recipe, aim.training_targets)
    local = local_cases(dataset, recipe.local_cases)  # what is wrong with them is said before hours of training
    twin = finished_twin(dataset, recipe, out)
    trained = None if twin else train_networks(dataset, selected, recipe, aim, out, on_epoch)
    if not this_rank().leads:
        return model.bundle  # which the first process writes
    if trained:
        note_training(model, trained.history, str(selected.teacher or ""), dataset.streamed)
    elif twin:
        note_training_of(twin, model)
    with writing_bundle(model.bundle) as folder:
        if trained:
            seal_trained(dataset, selected, recipe, aim, trained, folder)
        elif twin:
            take_over(twin, recipe, folder)
        predicted = calibrate_bundle(dataset, selected, recipe, aim, folder, local)
    for split, outputs in predicted.items():  # nobody needs to predict them again
        keep(model, Bundle.open(model.bundle), dataset, split, outputs)
    return model.bundle


def train_networks(
    dataset: Dataset, selected: Selected, recipe: ClassifierRecipe, aim: Aim, out: Path, on_epoch: OnEpoch
) -> Trained[ClassifierNetwork]:
    """Train the recipe's network, or each of its members, on the selected rows."""
    weights, draws = balance(dataset, selected, recipe.balance, aim.head)
    loss = _loss(recipe, aim, weights)
    taught = selected.given.source if selected.given else ""

    def samples_of(settings: ClassifierRecipe) -> LoadSample:
        if selected.teacher:
            return taught_samples(dataset, selected, selected.teacher, settings)
        return training_samples(dataset, selected.rows, settings.image, settings.patient, selected.targets)

    def fit(network: ClassifierNetwork, settings: ClassifierRecipe, folder: Path, tell: OnEpoch) -> Fitted:
        identity = [settings.name, settings.identity(), dataset.md5, taught]

        def freeze(epoch: int) -> None:
            network.freeze_features(epoch < settings.head.frozen_epochs)

        return fit_network(
            network,
            samples_of(settings),
            len(selected.rows),
            loss,
            validation(dataset, selected.validation, settings, aim.scored, aim.head),
            best_by(aim.scored),
            settings,
            folder,
            json.dumps(identity, sort_keys=True),
            tell,
            draws,
            before_epoch=freeze if settings.head.frozen_epochs else None,
            turns=dataset.turns(selected.rows),
        )

    return fit_members(lambda settings: build_classifier(settings, len(dataset.labels)), fit, recipe, out, on_epoch)


def seal_trained(
    dataset: Dataset,
    selected: Selected,
    recipe: ClassifierRecipe,
    aim: Aim,
    trained: Trained[ClassifierNetwork],
    folder: Path,
) -> None:
    """Export the trained network into `folder` and seal it, not calibrated yet."""
    card = BundleCard(
        task=dataset.task,
        recipe_name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        labels=dataset.labels,
        head=aim.head,
        preprocessing=preprocessing(recipe.image, dataset),
        views=recipe.image.views,
        attributes=recipe.patient.attributes,
        dataset_md5=dataset.md5,
        split_hashes=dataset.split_hashes,
        licences=dataset.licences,
        backbone=recipe.network.backbone,
        pretrained=describe_weights(recipe.network.backbone, recipe.network.pretrained),
        git_commit=git_commit(),
        epochs=trained.epoch,
        validation=trained.validation,
    )
    export_classifier(trained.network, recipe.image.side, _columns(recipe.patient), folder)
    selected.learned.write(folder)
    seal(folder, card)


def calibrate_bundle(
    dataset: Dataset, selected: Selected, recipe: ClassifierRecipe, aim: Aim, folder: Path, local: Local | None = None
) -> dict[str, Outputs]:
    """Seal the bundle in `folder` again, with what its own graph says of the validation split, and with its input gate;
    with pseudo-labels, also with what they brought over their teacher; of a student, with what was lost to its teacher.
    With `int8` its graph is quantised first, unless it is already. With local cases, calibration and operating points
    are fitted on what it says of those, and the input gate on both.

    Returns what was predicted of whole splits: of validation, and of training where the gate needs all of it.
    """
    rows = selected.validation
    classifier, exact = Classifier(folder), None
    if recipe.int8 and classifier.card.quantisation is None:
        exact = predict_rows(classifier, dataset, rows).logits
        quantise(classifier, dataset, recipe.seed)
        classifier = Classifier(folder)
    outputs = predict_rows(classifier, dataset, rows)
    own = dataset.targets(rows), rows["group"].to_numpy(str), dataset.split_hashes["validation"]
    fellows = dataset.fellows(rows) if recipe.patient.fellow else None
    said, seen = CalibrationLogits(outputs.logits, *own, fellows=fellows), [outputs]
    if local:
        said, there = _said_there(classifier, local, recipe)
        seen.append(there)
    card = calibrated_card(classifier.card, said, aim.recalls)
    card = card.model_copy(update={"local_cases": local.card if local else None})
    learned = dataset.split("train")
    taught = predict_rows(classifier, dataset, some_of(learned, recipe.seed))
    known = GateImages(taught.statistics, taught.embedding)
    unseen = GateImages(
        *(np.concatenate(parts) for parts in zip(*((o.statistics, o.embedding) for o in seen), strict=True))
    )
    fit_gate(known, unseen, card.preprocessing.side).write(folder)
    # compared are probabilities, as everywhere: a softmax ranks the images of a label by all its logits, not by one
    probabilities = calibrated(card, outputs.logits)
    if exact is not None:
        columns = [dataset.labels.index(label) for label in aim.scored]
        told = [found[:, columns] for found in (probabilities, calibrated(card, exact), dataset.targets(rows))]
        card = card.model_copy(update={"quantisation": quantisation_of(dataset, rows, mean_auc, *told)})
    if selected.teacher:
        lost = from_teacher(selected.teacher, probabilities, dataset, aim.scored, selected)
        card = card.model_copy(update={"distilled": lost})
    if selected.given:
        outcome = judged(Classifier(selected.given.teacher), probabilities, dataset, aim.scored, selected.given)
        card = card.model_copy(update={"pseudo_labels": outcome})
    seal(folder, card)
    return {"validation": outputs} | ({"train": taught} if len(taught) == len(learned) else {})


def _said_there(classifier: Classifier, local: Local, recipe: ClassifierRecipe) -> tuple[CalibrationLogits, Outputs]:
    """What the graph says of the local cases."""
    outputs = predict_rows(classifier, local.dataset, local.rows)
    fellows = local.dataset.fellows(local.rows) if recipe.patient.fellow else None
    return CalibrationLogits(
        outputs.logits, local.targets, local.patients, local.card.split_hash, "local", fellows
    ), outputs


def build_classifier(recipe: ClassifierRecipe, labels: int) -> ClassifierNetwork:
    """The network of a recipe, its weights in the memory layout its convolutions are fastest in.

    Raises `ValueError` if it cannot be trained at the recipe's training side.
    """
    backbone, head, side = recipe.network.backbone, recipe.head, recipe.image.side
    network = ClassifierNetwork(
        backbone,
        labels,
        recipe.network.pretrained,
        head.hidden,
        head.dropout,
        _columns(recipe.patient),
        head.head_init,
        side,
    )
    if network.flat and recipe.image.training_side not in (0, side):
        raise WrongValue(f"{backbone} flattens its maps: training_side must be side ({side}) or 0")
    if recipe.int8:
        require_convolutions(network)
    return network.to(memory_format=torch.channels_last)


def _loss(recipe: ClassifierRecipe, aim: Aim, weights: Tensor | None) -> Loss:
    """(network, batch of images, targets, attributes, a teacher's answers) → mean loss, each label weighted (L,)."""
    loss_of, columns = loss_named_by(recipe.objective, aim.head), _columns(recipe.patient)
    taught = recipe.distillation

    def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        images, target, attributes, *answers = batch
        scale = None if weights is None else weights.to(target.device)
        logits = model(images, attributes if columns else None).float()
        if not answers:
            return loss_of(logits, target, scale)
        return taught_loss(
            logits,
            target,
            answers[0],
            lambda ours, labels: loss_of(ours, labels, scale),
            taught.teacher_share,
            taught.teacher_temperature,
            aim.head,
        )

    return loss


def _columns(patient: Patient) -> int:
    return 2 * len(patient.attributes)  # a value and a flag each: `encode_attributes`
