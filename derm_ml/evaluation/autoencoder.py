"""The report of an autoencoder: how well it reconstructs, and whether its codes tell the classes apart.

save_autoencoder_report(report_autoencoder(AutoencoderPredictor(bundle), dataset, title), folder / "report")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.data.dataset import Dataset
from derm_ml.embeddings.autoencoder import AutoencoderPredictor, Reconstructed
from derm_ml.embeddings.extract import codes_of
from derm_ml.embeddings.quality import K, Retrieval, precision_at_k, quality, retrieve
from derm_ml.evaluation.record import Evaluation, Row
from derm_ml.evaluation.report import Opening, save
from derm_ml.figures.charts import training_curves
from derm_ml.figures.embeddings import precision_figure
from derm_ml.figures.sheets import Sheet
from derm_ml.metrics.intervals import measured, paired_difference, weighted_mean
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.reconstruction import checkerboard_energy, psnr, ssim
from derm_ml.model_folder import ModelFolder
from derm_ml.recipe import changed_settings
from derm_ml.training.autoencoder_recipes import AUTOENCODERS

SHOWN = 4  # reconstructions of each label
CAPTIONS = {
    "reconstructions": "Left the image, right what came back from the code: the first test images of each label.",
    "precision": "The share of a test image's nearest training images that have its label. The dashes are chance.",
    "by_class": "PSNR in dB and SSIM of each label, 95 % intervals over patients.",
    "against_classifier": "Precision among neighbours of the same queries in both embeddings, paired.",
}


def report_autoencoder(
    model: AutoencoderPredictor,
    dataset: Dataset,
    title: str,
    classifier: pd.DataFrame | None = None,
    split: str = "test",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Reconstructions, PSNR, SSIM, checkerboards and the quality of the codes on one split.

    The codes of all images are kept beside the bundle, `codes.parquet`. `classifier` is the embedding table of a
    classifier on the same dataset, to be compared on the same queries. Raises `ValueError` if it is of other data.
    """
    folder = ModelFolder.holding(model.bundle.path)
    rows = dataset.split(split)
    records = rows.to_dict("records")
    seen = [image for batch in model.batches((dataset.image(r), {}) for r in records) for image in _each(batch)]
    known = {name: code for name, (_, _, code) in zip(rows["id"], seen, strict=True)}
    codes = codes_of(model, dataset, folder.codes, known, progress)
    cases, pairs, boards = _compared(records, [(square, back) for square, back, _ in seen])
    metrics = _image_metrics(cases)
    metrics["checkerboard_energy"] = Metric(
        boards[1], None, None, len(cases), f"of the images themselves {boards[0]:.2f}"
    )
    metrics |= {f"code_{name}": metric for name, metric in quality(codes, split).items()}
    found = retrieve(codes, queries=split)
    tables = {"by_class": _by_class(cases)}
    shown = {"autoencoder": _of_labels(found)}
    if classifier is not None:
        other = retrieve(classifier, queries=split)
        tables["against_classifier"] = _against(other, found)
        shown = {"classifier": _of_labels(other), **shown}
    return Evaluation.of(
        model.bundle,
        dataset,
        split,
        title=f"Autoencoder · {title}",
        metrics=metrics,
        predictions=cases,
        tables=tables,
        figures={
            "reconstructions": Sheet(*pairs, columns=SHOWN),
            **_curves(folder.history),
            "precision": precision_figure(shown, found.chance, K),
        },
        captions=CAPTIONS,
    )


def save_autoencoder_report(report: Evaluation, folder: Path) -> Path:
    """Write the report and its page at `folder`, and return `folder`. No check of a task is about an autoencoder."""
    kind = AUTOENCODERS.get(report.recipe_name)
    return save(report, folder, Opening(changed=changed_settings(kind, report.recipe)))


def _curves(history: Path) -> dict[str, bytes]:
    """The figure of the training, where its history was kept."""
    return {"loss": training_curves(json.loads(history.read_text(encoding="utf-8")))} if history.exists() else {}


Pairs = tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]


def _each(batch: Reconstructed) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Square, reconstruction and code of each picture."""
    return zip(batch.square, batch.reconstruction, batch.embedding, strict=True)


def _compared(
    records: Sequence[Mapping[Any, Any]], both: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[pd.DataFrame, Pairs, tuple[float, float]]:
    """Of each picture's square and what came back: a row an image (id, group, split, label, psnr, ssim), pictures to
    show, checkerboards before and after."""
    cases = pd.DataFrame(
        [
            {name: row[name] for name in ("id", "group", "split", "label")} | {"psnr": psnr(a, b), "ssim": ssim(a, b)}
            for row, (a, b) in zip(records, both, strict=True)
        ]
    )
    chosen = [k for label in sorted(set(cases["label"])) for k in cases.index[cases["label"] == label][:SHOWN]]
    captions = [f"{cases['id'][k]}\n{cases['label'][k]}\n{cases['psnr'][k]:.1f} dB" for k in chosen]
    boards = [checkerboard_energy(np.stack([pair[side] for pair in both])) for side in (0, 1)]
    return cases, ([both[k] for k in chosen], captions), (boards[0], boards[1])


def _image_metrics(cases: pd.DataFrame) -> dict[str, Metric]:
    groups = cases["group"].to_numpy(str)
    return {
        name: measured(weighted_mean, groups, cases[name].to_numpy(float), why="there are no images", limits=None)
        for name in ("psnr", "ssim")  # the one is in dB, the other may be below 0
    }


def _by_class(cases: pd.DataFrame) -> list[Row]:
    result = []
    for label, some in cases.groupby("label"):
        found = _image_metrics(some)
        result.append(
            {"label": str(label), "n": len(some)}
            | {f"{name}{end}": getattr(m, part) for name, m in found.items() for end, part in _PARTS}
        )
    return result


_PARTS = (("", "value"), ("_low", "low"), ("_high", "high"))


def _of_labels(found: Retrieval) -> dict[str, Metric]:
    precision = precision_at_k(found)
    return {label: precision[f"precision_at_{K}_{label}"] for label in found.chance}


def _against(classifier: Retrieval, codes: Retrieval) -> list[Row]:
    """One row a label: both precisions, chance, and the paired difference with its interval."""
    if not np.array_equal(classifier.ids, codes.ids):
        raise ValueError("the classifier's table has other test images than the autoencoder's dataset")
    result: list[Row] = []
    for label in codes.chance:
        mine = codes.labels == label
        if not mine.any():
            continue
        a, b = classifier.values[mine], codes.values[mine]
        difference = paired_difference(weighted_mean, codes.groups[mine], a, b)
        result.append(
            {
                "label": label,
                "n": int(mine.sum()),
                "chance": codes.chance[label],
                "classifier": float(np.nanmean(a)),
                "autoencoder": float(np.nanmean(b)),
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
            }
        )
    return result
