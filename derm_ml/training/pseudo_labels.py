"""Labels for unlabelled images, guarded: proposed by a trained model's embeddings, accepted only if they help.

    embeddings (unit length) of labelled training and unlabelled images → PCA fitted on the labelled ones
    → label spreading over their nearest neighbours, label by label → entropy cut → class-prior cap → a table

    derm pseudo-label retinal_findings out/…/strong-1234             # writes …/strong-1234/pseudo_labels/
    derm fit retinal_findings --set pseudo_labels=out/…/strong-1234/pseudo_labels/pseudo_labels.csv

The second command trains on the enlarged set and compares the new model with its teacher on the frozen validation
split; the gate `pseudo_labels_helped` refuses promotion unless the gain's whole interval lies above nothing.

What guards it: test images take part in nothing. Validation images are hidden: their labels are in neither the network,
the PCA nor the graph, so the precision of the labels they would get is an honest audit. Unlabelled images of a patient
or duplicate cluster that reaches into validation or test are left out. Source of the spreading: Zhou et al. 2004.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from derm_ml import formats
from derm_ml.bundles.bundle import Bundle, PseudoLabelling
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.embeddings.extract import table_of, unit, vectors
from derm_ml.figures.sheet_page import Shown, write_sheet
from derm_ml.figures.sheets import Sheet
from derm_ml.files import replacing_file, sha256, write_json
from derm_ml.metrics.classification import mean_auc
from derm_ml.metrics.intervals import clopper_pearson, measured, paired_difference, weighted_mean
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.metrics.words import readable
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import predictions_of
from derm_ml.recipe import leaves
from derm_ml.records import FROZEN, UNLABELLED, DataError
from derm_ml.synthetic_mark import is_synthetic
from derm_ml.tables import read_table, write_table

COMPONENTS = 64  # of the PCA: fewer than the labelled images of a small study, enough for a few findings
NEIGHBOURS = 10
CLAMPING = 0.2  # share of a label that neighbours may overrule, scikit-learn's default
TOLERANCE = 1e-12  # of all shares together: a label fades to a fifth with each step, and shall still reach far ones
MOST_ENTROPY = 0.5  # of 1: a binary label is then at least 89 % sure
SHOWN = 24  # pictures on the sheet
TABLE, AUDIT = "pseudo_labels.csv", "audit.json"


@dataclass(frozen=True)
class Proposal:
    """`table` one row an unlabelled image: id, used, confidence, and for each label pseudo.<label> (1, 0 or empty),
    p.<label>, and truth.<label> where it is known after all. `audit` one row a label and value, and slice.
    """

    table: pd.DataFrame
    audit: list[dict[str, Any]]
    excluded: int  # unlabelled images that reach into validation or test

    @property
    def used(self) -> int:
        """How many images got at least one label."""
        return int(self.table["used"].to_numpy().sum())


def labelled_rows(dataset: Dataset, share: float, seed: int) -> pd.DataFrame:
    """Training rows whose labels are used: all, or those of `share` of the groups, drawn by a hash of the seed."""
    train = dataset.split("train")
    if share >= 1:
        return train
    names = sorted(train["group"].unique(), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    return train.loc[train["group"].isin(names[: max(1, round(share * len(names)))])]


def unlabelled_rows(dataset: Dataset, labelled: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Rows to be labelled: unlabelled images and training images whose labels are not used; how many were left out.

    Left out are those whose group (patient, near-duplicates) has an image in validation, test or recent.
    """
    table = dataset.manifest
    kept_apart = set(table.loc[table["split"].isin([name for name in FROZEN if name != "train"]), "group"])
    pool = table.loc[table["split"].isin([UNLABELLED, "train"]) & ~table["id"].isin(labelled["id"])]
    twins = pool["group"].isin(kept_apart)
    return pool.loc[~twins], int(twins.sum())


def propose(predictor: Classifier, dataset: Dataset) -> Proposal:
    """Labels for the unlabelled images of a dataset by the model's own neighbours, and their audited precision.

    The embeddings are those kept in the model folder; what is not there yet is predicted and kept. Which training
    labels the model knew is read from its card. Raises `DataError` if it was trained on other data.
    """
    card = predictor.card
    if card.dataset_md5 != dataset.md5:
        raise DataError(f"the model was trained on dataset {card.dataset_md5}, this is {dataset.md5}: train it again")
    learned = leaves(card.recipe)
    labelled = labelled_rows(dataset, learned.get("labelled_share", 1.0), learned["seed"])
    pool, excluded = unlabelled_rows(dataset, labelled)
    hidden = dataset.split("validation")
    splits = ("train", "validation", UNLABELLED)  # test images take part in nothing
    folder = ModelFolder.holding(predictor.bundle.path)
    embedded = table_of(predictor, dataset, folder, splits=splits).set_index("id")
    known, aside = (vectors(embedded.loc[rows["id"]]) for rows in (labelled, hidden))
    others = vectors(embedded.loc[pool["id"]]) if len(pool) else known[:0]
    known, others, aside = _reduced(known, others, aside)
    targets = dataset.targets(labelled)
    exclusive = card.head == "softmax"
    found, p = _labels(known, targets, others, exclusive)
    both, _ = _labels(known, targets, np.concatenate([others, aside]), exclusive)
    table = pd.DataFrame({"id": pool["id"].to_numpy(), "used": ~np.isnan(found).all(axis=1)})
    sure = np.where(np.isnan(found), np.nan, np.maximum(p, 1 - p))
    # nothing accepted: the mean of nothing is no confidence
    table["confidence"] = [float(np.nanmean(row)) if np.isfinite(row).any() else 0.0 for row in sure]
    truth = dataset.targets(pool)
    for k, label in enumerate(card.labels):
        table[f"pseudo.{label}"], table[f"p.{label}"], table[f"truth.{label}"] = found[:, k], p[:, k], truth[:, k]
    slices = {
        "hidden validation images": (both[len(pool) :], dataset.targets(hidden), hidden["group"].to_numpy(str)),
        "training images whose label was put aside": (found, truth, pool["group"].to_numpy(str)),
    }
    audit = [
        {"slice": name, **row}
        for name, (given, true, groups) in slices.items()
        if not np.isnan(true).all()
        for row in audited(given, true, groups, card.labels)
    ]
    return Proposal(table, audit, excluded)


def audited(given: np.ndarray, true: np.ndarray, groups: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """How often accepted labels are right: one row a label and value (present, absent), over cases of known truth.

    given and true (N, L) of 1, 0 or NaN, groups (N,). Intervals: the wider of exact and patient bootstrap.
    """
    rows = []
    for k, label in enumerate(labels):
        for value, word in ((1, "present"), (0, "absent")):
            at = (given[:, k] == value) & ~np.isnan(true[:, k])
            right = _precision(true[at, k] == value, groups[at])
            rows.append(
                {
                    "label": label, "given": word, "n": right.n, "share": right.n / max(1, len(given)),
                    "precision": right.value, "low": right.low, "high": right.high,
                    "share_in_truth": float(np.mean(true[~np.isnan(true[:, k]), k] == value)),
                }
            )  # fmt: skip
    return rows


def label_spreading(known: np.ndarray, classes: np.ndarray, others: np.ndarray, number: int) -> np.ndarray:
    """Label spreading (Zhou et al. 2004) over the k nearest neighbours: class shares (M, number) of `others`.

    known (N, D), classes (N,) of 0..number-1, others (M, D); every class occurs in `classes`. A point no label
    reaches gets even shares. The graph holds no other points than these.
    """
    from sklearn.semi_supervised import LabelSpreading

    points = np.concatenate([known, others])
    neighbours = min(NEIGHBOURS, len(points) - 1)
    model = LabelSpreading(kernel="knn", n_neighbors=neighbours, alpha=CLAMPING, max_iter=100, tol=TOLERANCE)
    model.fit(points, np.concatenate([classes, np.full(len(others), -1)]))
    shares = model.label_distributions_[len(known) :]
    total = shares.sum(axis=1, keepdims=True)
    reached = np.isfinite(total) & (total > 0)
    return np.where(reached, shares / np.where(reached, total, 1), 1 / number)


def surest_classes(shares: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """The class (M,) of each point, −1 where it is not accepted, from shares (M, K) and class priors (K,) of sum 1.

    Accepted is the likeliest class where the entropy (in units of an even guess) is at most `MOST_ENTROPY`, and of a
    class not more than its prior's share of all M points, the surest first: else the commonest class would take all.
    """
    classes = shares.shape[1]
    logs = np.log(np.where(shares > 0, shares, 1))
    entropy = -(shares * logs).sum(axis=1) / np.log(classes)
    likeliest = shares.argmax(axis=1)
    result = np.full(len(shares), -1)
    for k in range(classes):
        candidates = np.flatnonzero((likeliest == k) & (entropy <= MOST_ENTROPY))
        most = int(np.floor(priors[k] * len(shares) + 1e-9))
        result[candidates[np.argsort(entropy[candidates], kind="stable")][:most]] = k
    return result


def write_proposal(proposal: Proposal, predictor: Classifier, dataset: Dataset, folder: Path) -> dict[str, Path]:
    """`pseudo_labels.csv`, `audit.json`, `surest.png` and `.html` (images whose labels are surest); their paths."""
    learned = leaves(predictor.card.recipe)
    made = {"pseudo_labels": folder / TABLE, "audit": folder / AUDIT}
    with replacing_file(made["pseudo_labels"]) as temporary:
        write_table(temporary, proposal.table, float_format="%.6f")
    write_json(
        made["audit"],
        formats.PSEUDO_LABELS.stamped(
            {
                "teacher": str(predictor.bundle.path.resolve()),
                "teacher_version": predictor.bundle.version,
                "dataset_md5": dataset.md5,
                "labelled_share": learned.get("labelled_share", 1.0),
                "seed": learned["seed"],
                "table_sha256": sha256(made["pseudo_labels"]),
                "unlabelled": len(proposal.table),
                "used": proposal.used,
                "excluded": proposal.excluded,
                "precision": proposal.audit,
            }
        ),
    )
    used = proposal.table.loc[proposal.table["used"]]
    surest = used.sort_values(["confidence", "id"], ascending=[False, True]).head(SHOWN)
    rows = dataset.manifest.set_index("id", drop=False).loc[surest["id"]]
    captions = []
    for row in surest.to_dict("records"):
        there = [readable(name) for name in predictor.labels if row[f"pseudo.{name}"] == 1]
        captions.append(f"{row['id']}\n{' + '.join(there) or 'none'} ({row['confidence']:.0%})")
    sheet = Sheet([[dataset.image(row)] for _, row in rows.iterrows()], captions)
    note = "Proposed for unlabelled images by a model, with its mean confidence. No person looked at them."
    shown = Shown("The surest pseudo-labels", note, synthetic=is_synthetic(dataset.licences))
    return made | write_sheet(sheet, folder, "surest", shown)


@dataclass(frozen=True)
class PseudoLabels:
    """A table that was read back: manifest rows, targets (M, L) of 1, 0 or NaN, and the audit beside the table."""

    rows: pd.DataFrame
    targets: np.ndarray
    audit: dict[str, Any]
    path: Path

    @property
    def teacher(self) -> Path:
        """The bundle that proposed them."""
        return Path(self.audit["teacher"])

    @property
    def source(self) -> str:
        return f"file:{self.path.name} sha256:{self.audit['table_sha256']}"


def read_pseudo_labels(path: Path, dataset: Dataset, share: float, seed: int) -> PseudoLabels:
    """The images and labels of a table that `write_proposal` wrote for these data and this share of labels.

    Raises `DataError` if the table was changed, was made for other data, other labels or by a model that is no longer
    there as it was, or names an image that may not be trained on; `BundleError` if that model cannot be opened.
    """
    try:
        audit = json.loads((path.parent / AUDIT).read_text(encoding="utf-8"))
        table = read_table(path, dtype={"id": str})
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing: make the table with `derm pseudo-label`") from None
    audit = formats.PSEUDO_LABELS.read(audit, path.parent / AUDIT, DataError)
    if sha256(path) != audit["table_sha256"]:
        raise DataError(f"{path}: the table was changed after it was made; make it again with `derm pseudo-label`")
    made_for, asked = (audit["dataset_md5"], audit["labelled_share"], audit["seed"]), (dataset.md5, share, seed)
    if made_for != asked:
        raise DataError(
            f"{path} was made for dataset {made_for[0]}, labelled_share {made_for[1]}, seed {made_for[2]}; "
            f"this run has {asked[0]}, {asked[1]}, {asked[2]}: make it again, or set them alike"
        )
    if not table["used"].to_numpy().any():
        raise DataError(f"{path} gives no image a label: there is nothing to learn from it")
    if Bundle.open(Path(audit["teacher"])).version != audit["teacher_version"]:  # asked now, not after the training
        raise DataError(f"{audit['teacher']} is not the model the table was made with: make the table again")
    allowed, _ = unlabelled_rows(dataset, labelled_rows(dataset, share, seed))
    used = table.loc[table["used"]]
    strangers = sorted(set(used["id"]) - set(allowed["id"]))
    if strangers:
        raise DataError(f"{path} names {strangers[0]}, which is not an unlabelled image of these data")
    rows = dataset.manifest.set_index("id", drop=False).loc[used["id"]]
    targets = used[[f"pseudo.{label}" for label in dataset.labels]].to_numpy(np.float32)
    return PseudoLabels(rows, targets, audit, path)


def judged(
    teacher: Classifier, student: np.ndarray, dataset: Dataset, scored: Sequence[str], given: PseudoLabels
) -> PseudoLabelling:
    """Student against teacher on the validation split, the same resampled patients for both: the paired gain in AUC.

    `student` (N, L) are the probabilities, calibrated, that the new model gives the images of the validation split, in
    their order; those of the teacher are read where they are kept in its model folder. Accepted if the whole 95 %
    interval lies above 0.
    """
    of_teacher = predictions_of(teacher, dataset, "validation", ModelFolder.holding(teacher.bundle.path))
    columns = [dataset.labels.index(label) for label in scored]
    y = dataset.targets(of_teacher.rows)[:, columns]
    patients, known = of_teacher.rows["group"].to_numpy(str), of_teacher.outputs.probabilities
    gain = paired_difference(mean_auc, patients, student[:, columns], known[:, columns], y)
    return PseudoLabelling(
        table=given.source,
        images=len(given.rows),
        excluded=given.audit["excluded"],
        teacher=teacher.bundle.version,
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        n=gain.n,
        split_hash=dataset.split_hashes["validation"],
        accepted=gain.low > 0,
        precision=tuple(given.audit["precision"]),
    )


def _reduced(known: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Unit vectors in the principal components of the known images, of unit length again."""
    from sklearn.decomposition import PCA

    pca = PCA(min(COMPONENTS, *known.shape), random_state=0).fit(unit(known))
    return [
        unit(pca.transform(unit(found))) if len(found) else found[:, : pca.n_components_] for found in (known, *others)
    ]


def _labels(
    known: np.ndarray, targets: np.ndarray, others: np.ndarray, exclusive: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Accepted labels (M, L) of 1, 0 or NaN, and shares (M, L) of `others`; targets (N, L) of the known points."""
    if exclusive:  # one graph, every class in it
        usable = ~np.isnan(targets).any(axis=1)
        classes = targets[usable].argmax(axis=1)
        shares = label_spreading(known[usable], classes, others, targets.shape[1])
        chosen = surest_classes(shares, np.bincount(classes, minlength=targets.shape[1]) / len(classes))
        found = np.where(chosen[:, None] < 0, np.nan, np.eye(targets.shape[1])[chosen])
        return found, shares
    columns = [_binary(known, targets[:, k], others) for k in range(targets.shape[1])]
    return np.stack([found for found, _ in columns], axis=1), np.stack([p for _, p in columns], axis=1)


def _binary(known: np.ndarray, target: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    usable = ~np.isnan(target)
    classes = target[usable].astype(int)
    if len(np.unique(classes)) < 2:
        raise DataError("a label has no positives or no negatives among the labelled training images")
    shares = label_spreading(known[usable], classes, others, 2)
    chosen = surest_classes(shares, np.array([1 - classes.mean(), classes.mean()]))
    return np.where(chosen < 0, np.nan, chosen).astype(np.float64), shares[:, 1]


def _precision(right: np.ndarray, groups: np.ndarray) -> Metric:
    if not len(right):
        return undefined(0, "none was given")
    metric = measured(weighted_mean, groups, right.astype(np.float64), why="none was given")
    low, high = clopper_pearson(int(right.sum()), len(right))
    ends = [v for v in (metric.low, metric.high) if v is not None]
    return Metric(metric.value, min([low, *ends]), max([high, *ends]), len(right))
