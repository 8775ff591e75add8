"""The official scorer of ISIC 2017, part 3: AUC of melanoma, AUC of seborrheic keratosis, and their mean.

Submissions come in two forms, both read here: `image_id,melanoma,seborrheic_keratosis` (the challenge) and
`Id,task_1,task_2` (task 1 is melanoma, task 2 keratosis; `Id` may be the path of an image).

    python -m derm_ml.evaluation.isic submission.csv ISIC-2017_Test_v2_Part3_GroundTruth.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from derm_ml.escape import csv_original
from derm_ml.files import replacing_file
from derm_ml.metrics.classification import mean_roc_auc, roc_auc
from derm_ml.metrics.metric import Metric
from derm_ml.records import DataError
from derm_ml.tables import write_table

LABELS = ("melanoma", "seborrheic_keratosis")
COLUMNS = {"challenge": ("image_id", *LABELS), "tasks": ("Id", "task_1", "task_2")}


def write_submission(
    path: Path,
    ids: Sequence[str],
    melanoma: np.ndarray,
    keratosis: np.ndarray,
    form: Literal["challenge", "tasks"] = "challenge",
) -> None:
    """Write one row an image, sorted by id. Raises `DataError` for doubled ids or probabilities outside 0..1."""
    table = pd.DataFrame(dict(zip(COLUMNS[form], (list(ids), melanoma, keratosis), strict=True)))
    table = table.sort_values(COLUMNS[form][0], kind="stable")
    _check(path, table.set_axis(COLUMNS["challenge"], axis=1).reset_index(drop=True))
    with replacing_file(path) as temporary:
        write_table(temporary, table, float_format="%.8g")


def read_submission(path: Path) -> pd.DataFrame:
    """Columns image_id, melanoma, seborrheic_keratosis. Raises `DataError` naming file and line."""
    table = _read(path)
    for names in COLUMNS.values():
        if set(names) <= set(table.columns):
            break
    else:
        expected = " or ".join(",".join(names) for names in COLUMNS.values())
        raise DataError(f"{path}, line 1: columns are {','.join(table.columns)}, expected {expected}")
    table = pd.DataFrame(table[list(names)]).set_axis(COLUMNS["challenge"], axis=1)
    table["image_id"] = [PurePosixPath(csv_original(name).replace("\\", "/")).stem for name in table["image_id"]]
    return _check(path, table)


def score_submission(submission: Path, truth: Path) -> dict[str, Metric]:
    """`auc_melanoma`, `auc_seborrheic_keratosis` and `auc_mean` of a submission against the published truth.

    Images are joined by id; both files must hold the same ids, else `DataError` says which are missing. The
    published truth names no patients, so intervals resample images.
    """
    given, right = read_submission(submission), read_submission(truth)
    _same_ids(submission, given, truth, right)
    joined = right.merge(given, on="image_id", suffixes=("", ".p"), validate="one_to_one")
    scores = joined[[f"{label}.p" for label in LABELS]].to_numpy(np.float64)
    targets = joined[list(LABELS)].to_numpy(np.float64)
    ids = joined["image_id"].to_numpy()
    metrics = {f"auc_{label}": roc_auc(scores[:, k], targets[:, k], ids) for k, label in enumerate(LABELS)}
    return metrics | {"auc_mean": mean_roc_auc(scores, targets, ids)}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: not a readable CSV in UTF-8: {error}") from error


def _check(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    doubled = table.index[table["image_id"].duplicated()]
    if len(doubled):
        raise DataError(f"{path}, line {doubled[0] + 2}: the id {table['image_id'][doubled[0]]} was given before")
    for label in LABELS:
        numbers = pd.Series(pd.to_numeric(table[label], errors="coerce"), index=table.index, dtype=np.float64)
        wrong = table.index[~numbers.between(0, 1)]
        if len(wrong):
            line, value = wrong[0] + 2, table[label][wrong[0]]
            raise DataError(f"{path}, line {line}: {label} is '{value}', expected a number from 0 to 1")
        table = table.assign(**{label: numbers})
    return table


def _same_ids(submission: Path, given: pd.DataFrame, truth: Path, right: pd.DataFrame) -> None:
    a, b = set(given["image_id"]), set(right["image_id"])
    for missing, where, found in ((b - a, submission, truth), (a - b, truth, submission)):
        if missing:
            examples = ", ".join(sorted(missing)[:3])
            raise DataError(f"{where}: {len(missing)} ids of {found} are missing, e.g. {examples}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    for name, metric in score_submission(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{name:28s} {metric}")
