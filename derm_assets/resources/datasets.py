"""The datasets models are measured on: the prepared folder of each task and its frozen versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from derm_assets.resources.data_store import DataStore
from derm_assets.resources.places import Places
from derm_ml import DermError, formats
from derm_ml.bundles.bundle import Bundle
from derm_ml.data.learned_ids import LearnedIds
from derm_ml.evaluation.recent import beside_recent
from derm_ml.evaluation.record import Evaluation, EvaluationError
from derm_ml.model_folder import ModelFolder
from derm_ml.promotion import SPLIT, ModelVersion, PromotionError
from derm_ml.promotion.doctor import Check
from derm_ml.promotion.report import save_with_verdict
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True, slots=True)
class Datasets:
    """What promotion asks of the data (`derm_ml.promotion.Data`)."""

    places: Places

    def present(self, task: Task) -> str:
        """The md5 of the prepared dataset; empty where nothing is prepared."""
        from derm_ml.data.dataset import Dataset

        folder = self.places.prepared(task)
        return Dataset.open(folder).md5 if folder.exists() else ""

    def frozen(self, task: Task, md5: str) -> Path:
        """Where the dataset of that md5 lies frozen, fetched from the remote where it is not here and one is set."""
        return DataStore.from_environment(self.places).version(task, md5)

    def dataset(self, task: Task, md5: str) -> Dataset:
        """The dataset of that md5, whose bytes were compared with it: the frozen version, else the prepared folder.

        Raises `PromotionError` if it is not on this machine, or if what lies there is something else.
        """
        from derm_ml.data.dataset import Dataset

        if not _MD5.fullmatch(md5):
            raise PromotionError(f"'{md5}' is not the version of a dataset")
        for folder in (self.places.version(task, md5), self.places.prepared(task)):
            if folder.exists() and (found := Dataset.open(folder)).md5 == md5:
                return found
        frozen = self.frozen(task, md5)
        if frozen.exists() and (found := Dataset.open(frozen)).md5 == md5:
            return found
        if frozen.exists():
            raise PromotionError(f"{frozen} was changed: it is no longer dataset {md5}; remove it and prepare again")
        raise PromotionError(f"dataset {md5} is not on this machine: run `derm prepare {task.name}` with the same data")

    def measure(self, task: Task, bundle: Path, dataset_md5: str) -> Path:
        """A model's evaluation on the frozen test split of that dataset: made once, then kept while it can be read.

        It is evidence for a promotion: every case is predicted afresh, no kept predictions are read.
        """
        model, dataset = Bundle.open(bundle), self.dataset(task, dataset_md5)
        folder = self.places.here.again(task.name, f"{model.version}-{dataset_md5[:12]}")
        if _is_kept(folder):
            return folder
        predictor = task.load(bundle)
        measured, _ = beside_recent(task, predictor, dataset, task.evaluate(predictor, dataset, SPLIT))
        return save_with_verdict(task, measured, folder)

    def validate(self, task: Task, candidate: ModelVersion, dataset_md5: str) -> Path:
        """A model's evaluation on the frozen test split of a dataset it does not come from: made once, then kept while
        it can be read. Every case is predicted afresh; its page compares with the model's own test split.
        """
        from derm_ml.evaluation.external import as_external

        bundle, dataset = candidate.bundle, self.dataset(task, dataset_md5)
        model = Bundle.open(bundle)
        folder = self.places.here.again(task.name, f"{model.version}-external-{dataset_md5[:12]}")
        if _is_kept(folder):
            return folder
        measured = task.evaluate(task.load(bundle), dataset, SPLIT)
        try:
            seen = len(self.dataset(task, model.card.dataset_md5).also_learned(dataset, SPLIT))
        except PromotionError:  # what it was trained on is not here; which images it knows, its bundle says
            seen = None
        shown = as_external(measured, model.card, Evaluation.load(candidate.evaluation), seen)
        return save_with_verdict(task, shown, folder, external=True)

    def measured(self, model: ModelVersion, task: Task, dataset_md5: str) -> Evaluation | None:
        """What was measured of a registered model on that dataset, when it was registered or later; None: nothing was.

        Raises `EvaluationError` if the evaluation it was registered with cannot be read.
        """
        own = Evaluation.load(model.evaluation)
        if own.dataset_md5 == dataset_md5:
            return own
        try:
            return Evaluation.load(self.places.here.again(task.name, f"{own.model_version}-{dataset_md5[:12]}"))
        except EvaluationError:
            return None

    def trial(self, task: Task, challenger: str, champion: str) -> Path:
        """Where what a silent trial of these model versions has shown is kept, if there was one."""
        return self.places.here.trial(task.name, challenger, champion)

    def examine(self, task: Task, champion: Bundle) -> list[Check]:
        """Whether the champion's data are here, unchanged, and whether its ids can be compared."""
        checks = []
        for name, look in (("data", lambda: self.dataset(task, champion.card.dataset_md5)),
                           ("secret", lambda: LearnedIds.of(champion))):  # fmt: skip
            try:
                look()
                checks.append(Check(name, True, _WELL[name]))
            except DermError as error:
                checks.append(Check(name, False, str(error)))
        return checks


_WELL = {
    "data": "the dataset the champion was trained with is here, unchanged",
    "secret": "the champion's ids were made with this installation's secret",
}


def evaluation_of(bundle: Path) -> Path:
    """Where `derm evaluate` and the asset `evaluation` write: beside the bundle."""
    return ModelFolder.holding(bundle).evaluation(SPLIT)


def _is_kept(folder: Path) -> bool:
    """Whether an evaluation lies there that can be read and was measured as it is today."""
    try:
        kept = Evaluation.load(folder)
    except EvaluationError:  # not made yet, or damaged
        return False
    return bool(kept.predictions_sha256) and kept.format_version >= formats.MEASURED_AS_TODAY
