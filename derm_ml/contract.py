"""The verbs of a task folder, as types: what `Task` calls, what each module must hold and what it may.

    data.py       read, draw
    train.py      fit                    may: demo
    evaluate.py   evaluate, recount, repeat
    predict.py    load, answer, explain, explanation      may: answers, held_out, numbers, columns, drawings

Each task's `__init__.py` names its modules as `Modules`, so that a type checker compares them with these protocols;
tests/contract compares the signatures of every task, and names a public verb that nobody calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from derm_ml.asking.answers import Answer, Explanation
    from derm_ml.asking.replay import Upload
    from derm_ml.bundles.bundle import Bundle, BundleCard
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric
    from derm_ml.model_folder import ModelFolder
    from derm_ml.progress import OnEpoch
    from derm_ml.records import Reading


class Predictor(Protocol):
    """What a task's `load` gives. How it is asked is the task's own: an image, a pair, for classes or a mask."""

    @property
    def bundle(self) -> Bundle:
        """The verified bundle that answers."""
        ...

    @property
    def card(self) -> BundleCard:
        """What that bundle says of itself."""
        ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def provider(self) -> str:
        """Where its graph runs: `cpu`, `cuda`, …"""
        ...


class DataModule(Protocol):
    """Reads and draws image sets. `settings` is an instance of the task's own `settings` class."""

    def read(self, root: Path, settings: Any) -> Reading:
        """A raw folder as downloaded: its samples and problems. Raises `DataError` naming file and row."""
        ...

    def draw(self, folder: Path, n: int, seed: int = 0) -> None:
        """A small set of `n` samples with exact truth, in a layout `read` knows; the same bytes for the same seed."""
        ...


class TrainModule(Protocol):
    """Trains. `recipe` is an instance of one of the task's `recipes`."""

    def fit(self, dataset: Dataset, recipe: Any, out: Path, on_epoch: OnEpoch) -> Path:
        """Train (or resume) in `out`; the path of the finished bundle."""
        ...


class TrainExtras(Protocol):
    """What train.py may hold beside `TrainModule`."""

    def demo(self, size: int) -> Mapping[str, Any]:
        """The untrained network's outputs for random images of `size` pixels a side, by name."""
        ...


class EvaluateModule(Protocol):
    """Measures. `predictor` is what the task's `load` gives."""

    def evaluate(self, predictor: Any, dataset: Dataset, split: str, model_folder: ModelFolder | None) -> Evaluation:
        """Every metric with its interval and n on one frozen split, and every prediction.

        What was predicted before is read below `model_folder`, and what was not is kept there; without one all is
        predicted afresh.
        """
        ...

    def recount(self, card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str) -> dict[str, Metric]:
        """Every metric of `evaluate`, counted again from its saved predictions and the truth in the dataset.

        Raises `ValueError` or `KeyError` where the predictions are not those of the split.
        """
        ...

    def repeat(self, predictor: Any, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
        """Some cases predicted again: `id`, and the numbers of the predictions that must come out the same.

        It runs the model, whatever is kept: promotion holds an evaluation against it.
        """
        ...


class PredictModule(Protocol):
    """Answers and explains. `asked` is an RGB image (H, W, 3) uint8 or a `Pair`, as the task is asked."""

    def load(self, bundle: Path) -> Predictor:
        """The predictor of a bundle of the task. Raises `BundleError` for one that is damaged or of something else."""
        ...

    def answer(self, predictor: Any, asked: Any, options: Mapping[str, str], /) -> Answer:
        """What the service and the command line say of one case, as the model that the task's `asking.answer` names.

        Raises `ValueError` naming a wrong option.
        """
        ...

    def explain(self, predictor: Any, asked: Any, options: Mapping[str, str], /) -> np.ndarray:
        """An RGB uint8 image of why, with a caption. Raises `ValueError` naming a wrong option."""
        ...

    def explanation(self, predictor: Any, asked: Any, options: Mapping[str, str], /) -> tuple[Answer, Explanation]:
        """The answer, and what `explain` draws as numbers. Raises `ValueError` naming a wrong option."""
        ...


class PredictExtras(Protocol):
    """What predict.py may hold beside `PredictModule`."""

    def answers(self, predictor: Any, images: Sequence[np.ndarray], options: Mapping[str, str], /) -> Sequence[Answer]:
        """`answer` for each of several images, predicted together; they may be shrunk to what a dataset stores."""
        ...

    def held_out(self, dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
        """At most `n` test cases as they would be uploaded, with what the evaluation said of them."""
        ...

    def numbers(self, answer: Mapping[str, Any]) -> Mapping[str, float]:
        """The numbers of an answer, by name, that a built service must reproduce."""
        ...

    def columns(self, card: BundleCard) -> list[str]:
        """The columns of a table of answers, the same for every answer of a model; needed by all but tasks of pairs."""
        ...

    def drawings(self, image: np.ndarray, answer: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The images of an answer, by name, that `derm predict` writes."""
        ...


@dataclass(frozen=True)
class Modules:
    """The modules of one task; a type checker refuses one that does not fulfil its protocol."""

    data: DataModule
    train: TrainModule
    evaluate: EvaluateModule
    predict: PredictModule


# module → the protocol it must fulfil, and the one whose verbs it may hold too
PARTS: Mapping[str, tuple[type, type | None]] = {
    "data": (DataModule, None),
    "train": (TrainModule, TrainExtras),
    "evaluate": (EvaluateModule, None),
    "predict": (PredictModule, PredictExtras),
}
