"""Fit version 1 on a dataset and seal it into a bundle.

pairs of the training split → numbers (matching/fit.py) → checked on validation → bundle.json
"""

from __future__ import annotations

import time
from pathlib import Path

from safetensors.numpy import save_file

from derm_ml.bundles.bundle import BundleCard, seal, writing_bundle
from derm_ml.data.dataset import Dataset
from derm_ml.data.learned_ids import learned_from
from derm_ml.images.settings import Preprocessing
from derm_ml.machine import writing
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs.cases import cases
from derm_ml.pairs.faces.choice import FaceSettings, chosen_faces, chosen_recognition, resolved
from derm_ml.pairs.fit import fit_numbers
from derm_ml.pairs.measure import measure_cases, summary
from derm_ml.pairs.predictor import IDENTITY, PairPredictor, Parameters, bring_along
from derm_ml.pairs.registration.learned import TransformNetwork
from derm_ml.pairs.registration.register import WORK_SIDE, Registrar
from derm_ml.pairs.settings import Faces, PairRecipe, Version
from derm_ml.progress import EpochReport, OnEpoch
from derm_ml.provenance import git_commit, note_training
from derm_ml.ranks import refuse_several_processes


def face_settings(faces: Faces) -> FaceSettings:
    """The faces a recipe asks for, `auto` decided."""
    return resolved(
        FaceSettings(
            detector=faces.face_detector,
            weights=faces.face_weights,
            landmarks=faces.landmark_weights,
            recognition=faces.recognition_weights,
        )
    )


def fit_classical(dataset: Dataset, recipe: PairRecipe, out: Path, on_epoch: OnEpoch) -> Path:
    """Fit in `out` and return `out/bundle`; a finished one is returned as it is.

    Raises `FaceModelError` if a face model's file is missing, `DataError` if the pairs hold too little.
    """
    refuse_several_processes(recipe.name)
    model = ModelFolder(out)
    if model.finished:
        return model.bundle
    with writing(out, making=True):
        out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with writing_bundle(model.bundle) as folder:
        card, pairs = seal_pairs(dataset, recipe, folder, "classical")
    seconds = time.perf_counter() - started
    figures = card.validation
    report = EpochReport(1, 1, 1 - figures.get("match_f1", 0.0), figures, 0.0, seconds, pairs / seconds, True)
    note_training(model, [report])
    on_epoch(report)
    return model.bundle


def seal_pairs(
    dataset: Dataset,
    recipe: PairRecipe,
    folder: Path,
    version: Version,
    network: TransformNetwork | None = None,
    epochs: int = 1,
) -> tuple[BundleCard, int]:
    """Fit the numbers of a version, write everything but the network into `folder` and seal it.

    Returns the card, with what was reached on the validation split, and how many pairs were looked at.
    """
    faces = face_settings(recipe.faces)
    registrar = Registrar(*chosen_faces(faces), network, version == "learned")
    seed = f"fit {recipe.seed}"
    train = cases(dataset, "train", recipe.visits, harder=False, seed=seed)
    validation = cases(dataset, "validation", recipe.visits, harder=False, seed=seed)
    numbers, identity = fit_numbers(train, validation, registrar, chosen_recognition(faces))
    if identity:
        save_file(identity.tensors(), folder / IDENTITY)
    side = network.side if network else 0
    parameters = Parameters(faces=bring_along(faces, folder), numbers=numbers, version=version, side=side)
    learned_from(dataset).write(folder)
    card = pair_card(dataset, recipe, parameters, "bi_autoencoder" if network else "none", epochs)
    seal(folder, card)
    card = card.model_copy(update={"validation": summary(measure_cases(PairPredictor(folder), validation))})
    return seal(folder, card), len(train) + len(validation)


def pair_card(dataset: Dataset, recipe: PairRecipe, parameters: Parameters, backbone: str, epochs: int) -> BundleCard:
    """The card of a bundle that matches pairs."""
    return BundleCard(
        task=dataset.task,
        recipe_name=recipe.name,
        recipe=recipe.model_dump(mode="json"),
        labels=dataset.labels,
        head="pairs",
        temperature=1.0,
        preprocessing=Preprocessing(smallest_side=0, side=WORK_SIDE, store_side=dataset.info["settings"]["store_side"]),
        parameters=parameters.model_dump(mode="json"),
        dataset_md5=dataset.md5,
        split_hashes=dataset.split_hashes,
        licences=dataset.licences,
        backbone=backbone,
        pretrained=f"faces: {parameters.faces.detector}",
        git_commit=git_commit(),
        epochs=epochs,
    )
