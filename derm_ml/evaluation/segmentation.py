"""Measure a segmenter on one frozen split, picture by picture, at the resolution the pictures came in.

In this order: predict and score each picture → metrics with intervals → tables → figures → Evaluation. Example:

    evaluate_segmentation(TASK, predictor, dataset, "test")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.input_gate import QUALITY, gate_columns, gate_metrics
from derm_ml.evaluation.notes import of_split
from derm_ml.evaluation.quantisation import int8_metrics
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.explain.overlay import compared
from derm_ml.figures.masks import dice_figure
from derm_ml.figures.sheets import Sheet
from derm_ml.images.preprocess import resized_mask
from derm_ml.metrics.intervals import SHARE, measured, ratio, weighted_mean
from derm_ml.metrics.metric import Metric, not_evaluable
from derm_ml.metrics.segmentation import mask_scores
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.segmenter import Masks, masks_of, segment_rows
from derm_ml.task import Task

GALLERY = 18  # three rows of pictures: what a person looks through in a minute
COUNTED = 1e-9  # a ratio of whole numbers, computed twice
CHOSEN = "Epoch and temperature"  # on the validation split
REPEATED = ("dice", "jaccard", "sensitivity", "specificity", "answer.area_share", "answer.confidence")
MINIMUM = 10  # pictures: with fewer the interval of a mean says nothing
SIZES = (("small, below 5 %", 0.05), ("medium, 5 to 20 %", 0.20), ("large, 20 to 50 %", 0.50), ("very large", 1.01))
CAPTIONS = {
    "dice_distribution": "Left: how many images got which Dice. Middle: against the lesion's share of the image. "
    "Right: against the confidence the endpoint returns.",
    "worst_cases": "The images with the lowest Dice. Green: found. Orange: false positive. Blue: missed.",
    "from_worst_to_best": "From the lowest Dice to the highest: evenly sampled, not hand-picked.",
    "by_size": "The lesion's share of the image, by the true mask. Groups with fewer than 10 images are not evaluated.",
    "by_source": "Where the images come from.",
    "worst_cases_table": "The same images in numbers.",
}
# name of a metric → column of the scores; the order is that of the report
_MEANS = {
    "dice": "dice",
    "jaccard": "jaccard",
    "thresholded_jaccard": "thresholded_jaccard",
    "hd95": "hd95",
    "hd95_share": "hd95_share",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
_NOTES = {
    "thresholded_jaccard": "a Jaccard below 0.65 counts 0",
    "hd95": "pixels of the original image",
    "hd95_share": "share of the image's diagonal",
    "sensitivity": "over pixels, of images with a lesion",
    "specificity": "over pixels, of images with background",
}


def evaluate_segmentation(
    task: Task, segmenter: Segmenter, dataset: Dataset, split: str, model_folder: ModelFolder | None = None
) -> Evaluation:
    """Everything that is measured of a segmenter on one split.

    Every picture is asked as the endpoint would be: from its stored bytes, by the Segmenter; its mask is compared
    with the true one at the true one's own resolution. Metrics are means over pictures: `dice`, `jaccard`,
    `thresholded_jaccard`, `hd95` (pixels), `hd95_share`, `sensitivity`, `specificity`, then `empty_predictions`
    (share of the lesions that got an empty mask), `confidence_rank_correlation` (Spearman, with the Dice), of a model
    with an input gate `false_refusal`, and of one of 8-bit integers `int8_difference`.
    The masks are those kept in `model_folder`, which are predicted if they are not there; without one predicted afresh.
    Raises `ValueError` if the split has no images.
    """
    if dataset.split(split).empty:
        raise ValueError(f"the {split} split has no images: there is nothing to measure")
    masks = masks_of(segmenter, dataset, split, model_folder)
    table = pd.DataFrame(list(_scored(dataset, masks))).assign(**gate_columns(masks.fits))
    ranked = table.sort_values(["dice", "id"])
    worst = ranked.head(GALLERY)
    spread = ranked.iloc[np.linspace(0, len(ranked) - 1, min(GALLERY, len(ranked))).round().astype(int)]
    return Evaluation.of(
        segmenter.bundle,
        dataset,
        split,
        title=task.title,
        metrics=_metrics(table) | int8_metrics(segmenter.card),
        predictions=table.assign(split=split),
        tables={
            "by_size": [_row("size", name, part) for name, part in _by_size(table)],
            "by_source": [_row("source", str(name), part) for name, part in table.groupby("source")],
            "worst_cases_table": [_case(row) for row in worst.to_dict("records")],
        },
        figures={
            "dice_distribution": dice_figure(
                table["dice"].to_numpy(float),
                table["true_area"].to_numpy(float),
                table["answer.confidence"].to_numpy(float),
            ),
            "worst_cases": _gallery(dataset, masks, worst),
            "from_worst_to_best": _gallery(dataset, masks, spread),
        },
        captions=CAPTIONS,
        notes=(*of_split(segmenter.card, split, dataset.split_hash(split), CHOSEN), *_empty_masks(table)),
    )


def recount_segmentation(
    card: BundleCard, predictions: pd.DataFrame, dataset: Dataset, split: str
) -> dict[str, Metric]:
    """The metrics of `evaluate_segmentation` from its saved predictions; patients and true areas are the dataset's.

    Raises `ValueError` where Dice and Jaccard of an image are not what its counted pixels give.
    """
    rows = dataset.split(split).set_index("id").loc[predictions["id"]]
    table = predictions.assign(group=rows["group"].to_numpy(str), true_area=rows["mask.area"].to_numpy(float))
    both, either = 2 * table["tp"] + table["fp"] + table["fn"], table["tp"] + table["fp"] + table["fn"]
    for column, counted in (("dice", 2 * table["tp"] / both), ("jaccard", table["tp"] / either)):
        apart = np.abs(counted.fillna(1.0).to_numpy(float) - table[column].to_numpy(float))  # both masks empty: 1
        if (apart > COUNTED).any():
            raise ValueError(f"the {column} of {table['id'].iloc[int(apart.argmax())]} is not that of its pixels")
    return _metrics(table) | int8_metrics(card)


def repeat_segmentation(segmenter: Segmenter, dataset: Dataset, ids: Sequence[str], split: str) -> pd.DataFrame:
    """Some pictures segmented again: id, the scores that change little with a pixel, and what the endpoint answers.

    Promotion holds an evaluation against it, so the graph runs again: kept masks are not read here.
    """
    rows = dataset.split(split).set_index("id", drop=False).loc[list(ids)]
    masks = segment_rows(segmenter, dataset, rows)
    repeated = pd.DataFrame(list(_scored(dataset, masks)), columns=["id", *REPEATED])
    return repeated.assign(**gate_columns(masks.fits)).drop(columns=QUALITY, errors="ignore")  # no number


def _scored(dataset: Dataset, masks: Masks) -> Iterator[dict[str, Any]]:
    """One row a picture: who it is, its scores, and what the endpoint answers of the picture as stored."""
    for place, row in enumerate(masks.rows.to_dict("records")):
        yield {
            "id": str(row["id"]),
            "group": str(row["group"]),
            "source": str(row["source"]),
            "true_area": float(row["mask.area"]),
            **asdict(mask_scores(masks.mask(place), dataset.mask(row))),
            # repeated through the built service before it is released
            "answer.area_share": float((masks.answered(place) > 0).mean()),
            "answer.confidence": float(masks.confidence[place]),
        }


def _metrics(table: pd.DataFrame) -> dict[str, Metric]:
    groups = table["group"].to_numpy(str)
    metrics = {name: _mean(table, column, _NOTES.get(name, "")) for name, column in _MEANS.items()}
    lesions = table.loc[table["true_area"] > 0]
    empty = (lesions["tp"] + lesions["fp"] == 0).to_numpy(float)
    metrics["empty_predictions"] = measured(
        weighted_mean, lesions["group"].to_numpy(str), empty, why="no image of the split shows a lesion"
    )
    metrics["confidence_rank_correlation"] = measured(
        rank_correlation,
        groups,
        table["answer.confidence"].to_numpy(float),
        table["dice"].to_numpy(float),
        why="confidence or Dice is the same for all images",
        limits=(-1, 1),
    )
    return metrics | gate_metrics(table)


def rank_correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's correlation of (N,) and (N,) under weights (B, N) → (B,), ranks taken once over all cases."""
    x, y = rankdata(a), rankdata(b)
    total = weights.sum(axis=1)

    def mean(values: np.ndarray) -> np.ndarray:
        return (weights @ values) / total

    covariance = mean(x * y) - mean(x) * mean(y)
    spread = np.sqrt(np.clip((mean(x * x) - mean(x) ** 2) * (mean(y * y) - mean(y) ** 2), 0, None))
    return ratio(covariance, spread)


def _mean(table: pd.DataFrame, column: str, note: str = "") -> Metric:
    values = table[column].to_numpy(float)
    known = ~np.isnan(values)
    metric = measured(
        weighted_mean,
        table["group"].to_numpy(str)[known],
        values[known],
        why=f"no image of the split has a {column.replace('_', ' ')}",
        limits=None if column == "hd95" else SHARE,  # in pixels
    )
    return metric if metric.note else Metric(metric.value, metric.low, metric.high, metric.n, note)


def _by_size(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    without = table.loc[table["true_area"] == 0]
    if len(without):
        yield "no lesion", without
    above = 0.0
    for name, below in SIZES:
        yield name, table.loc[(table["true_area"] > above) & (table["true_area"] <= below)]
        above = below


def _row(key: str, name: str, part: pd.DataFrame) -> Row:
    if len(part) < MINIMUM:
        dice = not_evaluable(len(part))
        others: dict[str, float | None] = dict.fromkeys(("jaccard", "thresholded_jaccard", "hd95_share"))
    else:
        dice = _mean(part, "dice")
        columns = ("jaccard", "thresholded_jaccard", "hd95_share")
        others = {column: float(part[column].to_numpy(float).mean()) for column in columns}
    bounds = {"dice": dice.value, "dice_low": dice.low, "dice_high": dice.high}
    return {key: name, "n": len(part), **bounds, **others, "remark": dice.note}


def _case(row: Mapping[Any, Any]) -> Row:
    return {name: row[name] for name in ("id", "source", "dice", "jaccard", "hd95", "true_area", "answer.confidence")}


def _gallery(dataset: Dataset, masks: Masks, chosen: pd.DataFrame) -> Sheet:
    """The chosen rows of the scores: pictures as stored, with what was found, drawn too much and missed in colours."""
    pictures, captions = [], []
    for place, case in zip(chosen.index, chosen.to_dict("records"), strict=True):
        row = masks.rows.iloc[place]
        image = dataset.image(row)
        truth = resized_mask(dataset.mask(row), *image.shape[:2])
        pictures.append(compared(image, masks.answered(place), truth))
        captions.append(f"{case['id']}\nDice {case['dice']:.2f}, expected {case['answer.confidence']:.2f}")
    return Sheet([[picture] for picture in pictures], captions, columns=6)


def _empty_masks(table: pd.DataFrame) -> tuple[str, ...]:
    empty = int(np.count_nonzero(table["true_area"].to_numpy(float) == 0))
    if not empty:
        return ()
    return (f"{empty} of {len(table)} true masks are empty: an image counts 1 if the answer is empty too.",)
