"""A classifier's predictions of one split, and of any rows of a dataset.

    test = predictions_of(Classifier(bundle), dataset, "test", model_folder)
    test.outputs.probabilities, test.rows["id"]

A kept table has one row an image, in the order of the manifest: id; p.<label> and logit.<label> (float32), what the
bundle says of the image by itself, without a fellow eye; embedding (D float32); statistics (S float32, what the image
looks like, see images/statistics.py); maps (L × h × w float16, as a share of the map's maximum) and map_maxima
(L float32). A map is thus kept to 1/2048 of its maximum, in 2·L·h·w bytes: 0.3 kB for three labels at 7×7, less than
the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from derm_ml.bundles.bundle import Bundle, BundleCard
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier, Outputs, concatenate
from derm_ml.data.dataset import Dataset
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.kept import About, kept_table, write_kept
from derm_ml.progress import say_predicted

CALIBRATED = 1e-5  # float32 probabilities: calibrating again may round the last digit differently
KIND = "classifier"


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of a split: `rows` of the dataset's manifest and, in the same order, `outputs`."""

    dataset: Dataset
    split: str
    rows: pd.DataFrame
    outputs: Outputs

    def __len__(self) -> int:
        return len(self.rows)

    def with_fellows(self, classifier: Classifier) -> Predictions:
        """The same, each photo with that of the fellow eye where the split has it and the bundle gives it a share."""
        return replace(self, outputs=classifier.with_fellows(self.outputs, self.dataset.fellows(self.rows)))


def predictions_of(
    classifier: Classifier,
    dataset: Dataset,
    split: str,
    model_folder: ModelFolder | None = None,
    progress: Callable[[int], None] | None = None,
) -> Predictions:
    """What the classifier says of every image of a split (or of `unlabelled`), each by itself.

    Read below `model_folder` where it is kept, else predicted and kept there; without a folder predicted afresh.
    `progress` is told how many images were predicted. The maps of either way are the same, rounded as they are kept.
    Raises `ValueError` for a split without images.
    """
    rows = dataset.split(split)
    table = kept_table(
        model_folder,
        About.of(KIND, classifier.bundle, dataset, split),
        rows["id"].astype(str).tolist(),
        lambda: _as_table(rows, classifier.labels, predict_rows(classifier, dataset, rows, progress)),
        partial(_require_calibrated, classifier.card),
    )
    return Predictions(dataset, split, rows, _as_outputs(table, classifier.labels))


def predict_rows(
    classifier: Classifier, dataset: Dataset, rows: pd.DataFrame, progress: Callable[[int], None] | None = None
) -> Outputs:
    """What the classifier says of each row, asked afresh as the endpoint would be: from its stored bytes.

    Raises `ValueError` for no rows.
    """
    asked = ((dataset.image(row), dataset.attributes(row)) for row in rows.to_dict("records"))
    return concatenate(classifier.batches(asked, progress=progress or say_predicted))


def predict_changed(classifier: Classifier, images: Iterable[np.ndarray]) -> np.ndarray:
    """(N, L) logits of images that are no rows of a dataset, as a probe changed them; of their people nothing is told.

    Raises `ValueError` for no images.
    """
    return concatenate(classifier.batches((image, {}) for image in images)).logits


def keep(model_folder: ModelFolder, bundle: Bundle, dataset: Dataset, split: str, outputs: Outputs) -> None:
    """Keep what the graph said of a split before its bundle was sealed, calibrated as the bundle now says."""
    rows = dataset.split(split)
    told = replace(outputs, probabilities=calibrated(bundle.card, outputs.logits))
    about = About.of(KIND, bundle, dataset, split)
    write_kept(about.path(model_folder), about, _as_table(rows, bundle.card.labels, told))


def require_calibrated(card: BundleCard, ids: Sequence[str], logits: np.ndarray, p: np.ndarray) -> None:
    """Raises `ValueError` naming the first image whose probabilities (N, L) are not its logits (N, L), calibrated."""
    apart = np.abs(calibrated(card, logits.astype(np.float32)) - p)
    wrong = (np.where(np.isnan(p), np.inf, apart) > CALIBRATED).any(axis=1) & np.isfinite(logits).all(axis=1)
    if wrong.any():
        raise ValueError(f"the probabilities of {ids[int(wrong.argmax())]} are not its logits, calibrated")


def _require_calibrated(card: BundleCard, table: pa.Table) -> None:
    if "statistics" not in table.column_names:
        raise ValueError("it was written before predictions held image statistics")
    logits, p = (_columns(table, prefix, card.labels) for prefix in ("logit", "p"))
    require_calibrated(card, table["id"].to_pylist(), logits, p)


def _as_table(rows: pd.DataFrame, labels: tuple[str, ...], outputs: Outputs) -> pa.Table:
    columns: dict[str, pa.Array] = {"id": pa.array(rows["id"].astype(str), pa.string())}
    for prefix, values in (("p", outputs.probabilities), ("logit", outputs.logits)):
        columns |= {f"{prefix}.{label}": pa.array(values[:, k]) for k, label in enumerate(labels)}
    maxima = outputs.maps.max(axis=(2, 3)).astype(np.float32)
    shares = outputs.maps / np.where(maxima > 0, maxima, 1)[:, :, None, None]
    columns["embedding"] = _lists(outputs.embedding.astype(np.float32))
    columns["statistics"] = _lists(outputs.statistics.astype(np.float32))
    columns["map_maxima"] = _lists(maxima)
    columns["maps"] = _lists(shares.astype(np.float16))
    return pa.table(columns)


def _as_outputs(table: pa.Table, labels: tuple[str, ...]) -> Outputs:
    maxima, shares = _array(table, "map_maxima"), _array(table, "maps")
    return Outputs(
        logits=_columns(table, "logit", labels),
        probabilities=_columns(table, "p", labels),
        embedding=_array(table, "embedding"),
        maps=shares.astype(np.float32) * maxima[:, :, None, None],
        statistics=_array(table, "statistics"),
    )


def _columns(table: pa.Table, prefix: str, labels: tuple[str, ...]) -> np.ndarray:
    return np.stack([table[f"{prefix}.{label}"].to_numpy() for label in labels], axis=1)


def _lists(values: np.ndarray) -> pa.Array:
    """(N, a, …) as N lists of fixed size, nested where there are several axes."""
    found = pa.array(np.ascontiguousarray(values).ravel())
    for size in values.shape[:0:-1]:
        found = pa.FixedSizeListArray.from_arrays(found, size)
    return found


def _array(table: pa.Table, name: str) -> np.ndarray:
    """What `_lists` was given."""
    found, shape = table[name].combine_chunks(), [len(table)]
    while pa.types.is_fixed_size_list(found.type):
        shape.append(found.type.list_size)
        found = found.flatten()
    return found.to_numpy().reshape(shape)
