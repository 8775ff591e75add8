"""What MLflow calls to load a registered bundle: `mlflow.pyfunc.load_model("models:/lesion_classification@champion")`.

    answers = model.predict(pandas.DataFrame({"image": [jpeg_bytes], "age": [63.0]}))

A bundle in the registry holds a file `MLmodel` that names this module. No MLflow here and no pickle: the bundle is
verified, opened and asked as `derm predict` does. A row that cannot be answered costs the others nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derm_ml.asking.kinds import BOXES, IMAGE
from derm_ml.asking.options import ANSWER, AskingError
from derm_ml.asking.pair import FIRST
from derm_ml.bundles.bundle import BundleCard, read_card, require_trusted
from derm_ml.images.containers import ImageError
from derm_ml.registry import get_task
from derm_ml.task import Task

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {"number": "double", "integer": "long", "string": "string"}  # of an option → of a column, as MLflow calls it
Column = tuple[str, str, bool]  # name, MLflow's type, whether it must be there


def columns_asked(task: Task, card: BundleCard) -> list[Column]:
    """The columns of a question: images as the bytes of their files, boxes as JSON, and what the model takes beside."""
    asking = task.asking
    parts = [part for part in asking.parts if not (asking.takes_bytes and part.name == FIRST)]
    columns = [(IMAGE, "binary", True)] if asking.takes_bytes else []
    columns += [
        (part.name, "binary" if part.is_image else "string", part.is_required and not asking.takes_bytes)
        for part in parts
    ]
    options = (option for option in asking.options_for(ANSWER).values() if option.is_used_by(card))
    return [*columns, *((option.name, _TYPES[option.type], False) for option in options)]


def columns_answered(card: BundleCard) -> list[Column]:
    """The columns of an answer: it as JSON or the sentence why there is none, and of a classifier its probabilities."""
    labels = card.labels if card.head in ("softmax", "sigmoid") else ()
    return [("answer", "string", False), ("error", "string", False), *((f"p.{x}", "double", False) for x in labels)]


class BundleModel:
    """One bundle as MLflow asks it. Raises `BundleError` for one that is damaged, or not signed by a trusted key."""

    def __init__(self, folder: Path) -> None:
        require_trusted(folder)
        self.task = get_task(read_card(folder).task)
        self.predictor = self.task.load(folder)

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One row an answer, for rows of `columns_asked`. `params` is MLflow's and has no use here."""
        import pandas as pd

        names = [name for name, _, _ in columns_answered(self.predictor.card)]
        rows = [self._row(row) for row in model_input.to_dict("records")]
        return pd.DataFrame([[row.get(name) for name in names] for row in rows], columns=pd.Index(names), dtype=object)

    def _row(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        asking, card = self.task.asking, self.predictor.card
        known = {str(name): value for name, value in given.items() if not _is_missing(value)}
        images = {part.name for part in asking.parts if part.is_image} | {IMAGE}
        parts = {name: bytes(value) for name, value in known.items() if name in images}
        if BOXES in known:
            parts[BOXES] = str(known[BOXES]).encode()
        if asking.takes_bytes and asking.parts and len(parts) > 1:
            parts[FIRST] = parts.pop(IMAGE)
        try:
            options = asking.read({name: str(v) for name, v in known.items() if name in asking.known}, card)
            asked = asking.decoded(parts, self.predictor.labels, asking.longest(card))
            answer = self.task.answer(self.predictor, asked, options)
        except (ImageError, AskingError) as error:
            return {"error": str(error)}
        shares = answer.get("probabilities") or {}
        return {"answer": json.dumps(answer), **{f"p.{label}": share for label, share in shares.items()}}


def _is_missing(value: object) -> bool:
    return value is None or value != value or value == "" or value == b""  # NaN is not itself


def _load_pyfunc(path: str) -> BundleModel:
    """MLflow's name for it. `path` is the folder that holds `MLmodel`: the bundle."""
    return BundleModel(Path(path))
