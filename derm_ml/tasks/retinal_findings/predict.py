"""What retinal_findings says and shows about one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml import RESEARCH_USE
from derm_ml.bundle import BundleCard
from derm_ml.explain.findings import explained, finding_of
from derm_ml.pairs import FIRST, SECOND, Pair
from derm_ml.predictor import Predictor
from derm_ml.replay import Upload, form_body, picture_uploads
from derm_ml.task import CHAIN

if TYPE_CHECKING:
    from derm_ml.dataset import Dataset
    from derm_ml.evaluation import Evaluation


def answer(predictor: Predictor, asked: np.ndarray | Pair, options: Mapping[str, str]) -> dict[str, Any]:
    """Calibrated probability, threshold and decision of every finding; `present` names those decided for.

    Of a pair of photos the first is the eye in question and the second the same person's other eye: `fellow_share`
    says how much of it went into the logit of each finding, 0 where there is none. A finding is present from its point
    `balanced` upwards. Findings do not exclude each other.
    """
    outputs = finding_of(predictor, asked)
    shares = (isinstance(asked, Pair) and predictor.card.fellow) or (0.0,) * len(predictor.labels)
    probabilities = {name: float(p) for name, p in zip(predictor.labels, outputs.probabilities[0], strict=True)}
    thresholds = {name: predictor.card.threshold(name) for name in predictor.labels}
    decisions = {name: probabilities[name] >= thresholds[name] for name in predictor.labels}
    return {
        "task": predictor.card.task,
        "present": " + ".join(name for name, there in decisions.items() if there) or "none",
        "fellow_share": dict(zip(predictor.labels, shares, strict=True)),
        "probabilities": probabilities,
        "thresholds": thresholds,
        "decisions": decisions,
        "operating_points": [
            {
                **point.model_dump(exclude={"split", "split_hash"}),
                "positive": probabilities[point.label] >= point.threshold,
            }
            for point in predictor.card.operating_points
        ],
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "note": RESEARCH_USE,
    }


def columns(card: BundleCard) -> list[str]:
    """The columns `derm predict --csv` writes of an answer."""
    groups = ("fellow_share", "probabilities", "thresholds", "decisions")
    return ["task", "present", *(f"{group}.{label}" for group in groups for label in card.labels), *CHAIN]


def explain(predictor: Predictor, asked: np.ndarray | Pair, options: Mapping[str, str]) -> np.ndarray:
    """The picture with the Grad-CAM of `options["label"]`; without one, of every finding that is present, side by side.

    Where no finding is present, that of the most likely. Raises `ValueError` for a label the model does not know.
    """
    return explained(predictor, asked, options.get("label", ""))


def held_out(dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
    """Test photos as they would be uploaded, with that of the other eye where the split has one."""
    rows = dataset.split("test")
    fellows = dict(zip(rows["id"], dataset.fellows(rows), strict=True))
    for upload in picture_uploads(dataset, evaluation, n):
        other = fellows[upload.id]
        if other < 0:
            yield upload
        else:
            body, content_type = form_body({FIRST: upload.body, SECOND: dataset.read(rows.iloc[other])})
            yield replace(upload, body=body, content_type=content_type)
