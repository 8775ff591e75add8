"""The predictor of a bundle that matches pairs: what evaluation, command line and serving all ask.

predictor = PairPredictor(Path("out/persistent_conditions/classical-…/bundle"))
outcome = predictor(pair)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from derm_ml.asking.pair import FIRST, SECOND, Pair
from derm_ml.bundles.bundle import CARD, MODEL, Bundle, BundleCard, BundleError
from derm_ml.bundles.providers import CPU
from derm_ml.images.preprocess import limit_side
from derm_ml.pairs.faces.choice import FILES, LANDMARKS, RECOGNITION, FaceSettings, chosen_faces, chosen_recognition
from derm_ml.pairs.faces.face import FaceModelError
from derm_ml.pairs.faces.identity import FaceIdentity
from derm_ml.pairs.matching.matcher import Matcher, Numbers, Outcome
from derm_ml.pairs.registration.learned import TransformNetwork
from derm_ml.pairs.registration.register import Registrar
from derm_ml.pairs.settings import Version
from derm_ml.pairs.skin import no_skin

IDENTITY = "identity.safetensors"  # beside the weights of a network, if there is one


class Parameters(BaseModel):
    """What the card of a pair bundle holds in `parameters`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faces: FaceSettings
    numbers: Numbers
    version: Version = "classical"
    side: int = 0  # of the photos the network sees


class PairPredictor:
    """Answers pairs by one verified bundle. Thread-safe. Raises `BundleError` for one that cannot be used."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.bundle = Bundle.open(path)
        for name in (IDENTITY, *FILES.values(), LANDMARKS, RECOGNITION, MODEL):
            if (path / name).exists() and name not in self.card.files:
                raise BundleError(f"{path / name}: {CARD} does not name it with its sha256; it was put there later")
        try:
            parameters = Parameters.model_validate(self.card.parameters)
            faces = here(parameters.faces, path)
            detector, landmarks = chosen_faces(faces)
            recognition = chosen_recognition(faces)
        except (ValidationError, FaceModelError) as error:
            raise BundleError(f"{path}: not a bundle that matches pairs: {error}") from error
        self.faces = detector
        self._network = None
        if parameters.version != "classical":
            self._network = TransformNetwork.open(self.bundle.model, parameters.side)
        registrar = Registrar(detector, landmarks, self._network, parameters.version == "learned")
        self.matcher = Matcher(registrar, parameters.numbers, recognition or read_identity(path))

    @property
    def card(self) -> BundleCard:
        return self.bundle.card

    @property
    def provider(self) -> str:
        """Where its graph runs: `cpu`, `cuda`, …; a bundle without one computes on the CPU."""
        return self._network.session.provider if self._network else CPU

    @property
    def labels(self) -> tuple[str, ...]:
        return self.card.labels

    def __call__(self, pair: Pair) -> Outcome:
        """The outcome of a pair of pictures of any size; its boxes are numbered as given.

        A pair is refused if a photo without a face shows no skin.
        """
        stored = self.stored(pair)
        outcome = self.matcher(stored)
        if not outcome.accepted:
            return outcome
        faces = outcome.registration.faces if outcome.registration else (None, None)
        for name, photo, face in zip((FIRST, SECOND), stored.pictures, faces, strict=True):
            if face is None and (why := no_skin(photo)):
                return Outcome(False, f"the {name} photo {why}", registration=outcome.registration)
        return outcome

    def stored(self, pair: Pair) -> Pair:
        """The pair at the size a dataset stores pictures: what the numbers were fitted on."""
        pictures, regions = [], []
        for picture, boxes in zip(pair.pictures, pair.regions, strict=True):
            small = limit_side(picture, self.card.preprocessing.store_side)
            across, down = small.shape[1] / picture.shape[1], small.shape[0] / picture.shape[0]
            pictures.append(small)
            regions.append(tuple(box.scaled(across, down) for box in boxes))
        return Pair(pictures[0], pictures[1], regions[0], regions[1], pair.sizes)


def here(faces: FaceSettings, folder: Path) -> FaceSettings:
    """Face settings with the files a bundle brought along."""
    update = {}
    if faces.detector in FILES:
        update["weights"] = str(folder / FILES[faces.detector])
    if faces.landmarks:
        update["landmarks"] = str(folder / LANDMARKS)
    if faces.recognition:
        update["recognition"] = str(folder / RECOGNITION)
    return faces.model_copy(update=update)


def bring_along(faces: FaceSettings, folder: Path) -> FaceSettings:
    """Copy the files of resolved face settings into a bundle, and the settings that name them there."""
    if faces.detector in FILES:
        shutil.copyfile(faces.weights, folder / FILES[faces.detector])
    if faces.landmarks:
        shutil.copyfile(faces.landmarks, folder / LANDMARKS)
    if faces.recognition:
        shutil.copyfile(faces.recognition, folder / RECOGNITION)
    named = here(faces, Path())
    return named.model_copy(update={"weights": Path(named.weights).name if named.weights else ""})


def read_identity(folder: Path) -> FaceIdentity | None:
    """The fitted identity of a bundle, None where it has none."""
    from safetensors.numpy import load_file

    path = folder / IDENTITY
    return FaceIdentity.of(load_file(path)) if path.is_file() else None
