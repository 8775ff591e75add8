"""A prepared dataset, looked at before anything is trained on it: what a person should see, the likeliest first.

    found = audit(dataset)
    found.verdict                         one sentence
    found.findings["label_errors"]        id, file, source, split, label, score, why, suggested
    found.shortcuts                       what tells a label without showing the disease

Images are judged in this order, and what is found early is not asked again: blank, too dark, too small, blurred,
off-topic, then the labels of the rest. Nothing is changed and nothing is left out of the dataset: a person decides.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.audit.labels import Doubts, doubt
from derm_ml.audit.looks import Appearance, look_at
from derm_ml.audit.outliers import strangeness
from derm_ml.audit.shortcuts import MEASURES, Shortcut, shortcuts
from derm_ml.data.dataset import Dataset
from derm_ml.data.rules import contradictions
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.words import readable

BLANK = 6.5  # Lab units of plainness: noise of 8 grey levels on one colour gives 6, the palest nevus of ISIC 2017 7.3
LIT, LEAST_LIGHT = 50.0, 0.3  # L* from which BLANK counts in full, and its share that counts in the dark
DARK = 25.0  # L* that 98 % of the pixels do not reach: nothing in the image can be made out
SMALL = 64  # pixels of the shorter side of the original: the least a network of this project is trained with
BLURRED = 0.5  # log10 of the Laplacian's variance: nothing in the image is finer than a tenth of its side
STRANGE = 4.0  # standard deviations: the farthest of clean sets lie at 3.5, foreign images from 4.6 on
FEW = 0.02  # share of images with a finding; of clean synthetic sets fewer are flagged
KINDS = {
    "blank": "Nothing is to be seen: one colour, or light falling off.",
    "too_dark": "Underexposed: hardly a pixel is brighter than dark grey.",
    "too_small": f"The original is less than {SMALL} pixels across.",
    "blurred": "Out of focus, or enlarged from a much smaller image.",
    "off_topic": "Like none of the others: of something else, a screenshot, a drawing, or broken.",
    "label_errors": "A model that has not seen the image is clearly surer of another label than of the given one.",
    "two_labels": "Copies of one image that carry different labels: one of them is wrong.",
}
COLUMNS = ["id", "file", "source", "split", "label", "score", "why"]
HAND_MADE = "colour, texture and shape"


@dataclass(frozen=True, eq=False)
class Audit:
    """`images` one row an image (its place, measures and scores), `findings` by kind, the likeliest first.

    `judged_by` says what the images were compared by, `separated` how well labels follow from that (out-of-fold AUC).
    """

    task: str
    dataset_md5: str
    judged_by: str
    images: pd.DataFrame
    findings: dict[str, pd.DataFrame]
    shortcuts: tuple[Shortcut, ...]
    separated: dict[str, Metric]
    unjudged: tuple[str, ...]

    @property
    def flagged(self) -> set[str]:
        """The ids of all images with a finding."""
        return {str(name) for table in self.findings.values() for name in table["id"]}

    @property
    def n(self) -> int:
        """How many samples there are; a pair of images is one."""
        return len(set(self.images["id"]))

    @property
    def share(self) -> float:
        return len(self.flagged) / max(1, self.n)

    @property
    def suspicious(self) -> tuple[Shortcut, ...]:
        return tuple(s for s in self.shortcuts if s.suspicious)

    @property
    def clean(self) -> bool:
        """Whether so little was found that nobody need look before training."""
        return self.share < FEW and not self.suspicious

    @property
    def verdict(self) -> str:
        counts = [f"{len(table)} {readable(kind)}" for kind, table in self.findings.items() if len(table)]
        images = f"{len(self.flagged)} of {self.n} images ({self.share:.1%}) deserve a look: {', '.join(counts)}"
        said = images if counts else f"None of the {self.n} images stands out"
        told = [f"{s.label} is told by {readable(s.measure)} alone (AUC {s.auc.value:.2f})" for s in self.suspicious]
        return f"{said}. {'; '.join(told) if told else 'No shortcut to a label was found'}."

    @property
    def numbers(self) -> dict[str, float]:
        """Bare numbers: how many of what, and how far the judgement of the labels goes."""
        told = {f"auc_{name}": metric.value for name, metric in self.separated.items() if metric.value is not None}
        return {
            "images": float(self.n),
            "flagged": float(len(self.flagged)),
            "flagged_share": self.share,
            **{kind: float(len(table)) for kind, table in self.findings.items()},
            "suspicious_shortcuts": float(len(self.suspicious)),
            **told,
        }


def audit(
    dataset: Dataset,
    negative: str = "none",
    vectors: np.ndarray | None = None,
    judged_by: str = HAND_MADE,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Audit:
    """Look at every image of a dataset, of all splits and without a label too.

    `negative` is what the task calls an image without a finding. `vectors` (N, D), one for each row of the manifest,
    compare the images instead of the hand-made numbers: a model's embeddings.
    """
    roles = [c.removesuffix(".shard") for c in dataset.manifest.columns if c.endswith(".shard") and c != "mask.shard"]
    places = [
        (row, role)
        for row in dataset.manifest.to_dict("records")
        for role in roles
        if isinstance(row[f"{role}.shard"], str)
    ]
    looks = _looked_at(dataset, places, progress)
    images = _table(places, looks)
    compared = np.stack([look.vector for look in looks]) if vectors is None else vectors
    quality = _quality(images)
    fit = ~images["id"].isin([name for table in quality.values() for name in table["id"]]).to_numpy()
    scores = np.full(len(images), np.nan)
    scores[fit] = strangeness(compared[fit])
    strange = scores >= STRANGE
    images["off_topic"] = scores
    why = [f"its neighbours are {score:.1f} standard deviations farther than usual" for score in scores[strange]]
    findings = {**quality, "off_topic": _found(images.loc[strange], scores[strange], why)}
    rows = pd.DataFrame([row for row, _ in places])
    labelled = fit & ~strange & (len(roles) == 1)  # of a pair, no image has a label of its own
    doubts = _doubts(dataset, rows, compared, labelled, negative)
    images["label_error"] = np.nan
    images.loc[labelled, "label_error"] = doubts.score
    findings["label_errors"] = _doubtful(images.loc[labelled], doubts)
    findings["two_labels"] = _two_labels(dataset, images)
    return Audit(
        dataset.task,
        dataset.md5,
        judged_by,
        images,
        {kind: findings[kind] for kind in KINDS},
        tuple(_shortcuts(dataset, rows, images)),
        doubts.separated,
        doubts.unjudged,
    )


def _looked_at(
    dataset: Dataset, places: list[tuple[dict[Any, Any], str]], progress: Callable[[int, int], None]
) -> list[Appearance]:
    """In the order of the manifest; OpenCV lets other threads run."""
    looks = []
    with ThreadPoolExecutor() as pool:
        for look in pool.map(lambda place: look_at(dataset.image(*place)), places):
            looks.append(look)
            progress(len(looks), len(places))
    return looks


def _table(places: list[tuple[dict[Any, Any], str]], looks: list[Appearance]) -> pd.DataFrame:
    records = []
    for (row, role), look in zip(places, looks, strict=True):
        height, width = int(row[f"{role}.height"]), int(row[f"{role}.width"])
        suffix = "" if role == "image" else f" ({role})"
        records.append(
            {
                "id": row["id"],
                "role": role,
                "file": f"{row[f'{role}.shard']}: {row['id']}{suffix}",
                **{name: row[name] for name in ("source", "split", "label")},
                **{name: value for name, value in asdict(look).items() if name != "vector"},
                "height": height,
                "width": width,
                "pixels": height * width,
                "aspect": width / height,
            }
        )
    return pd.DataFrame(records)


def _quality(images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Images on which nothing can be judged, each under the first reason that holds; a high score is a bad image."""
    shorter = images[["height", "width"]].min(axis=1)
    light = (images["brightest"] / LIT).clip(LEAST_LIGHT, 1)  # in a dark image what there is differs less
    plain, bright, sharp = images["plainness"], images["brightest"], images["sharpness"]
    tests = {
        "blank": (BLANK * light - plain, plain, "it differs from one smooth colour by {:.1f} Lab units"),
        "too_dark": (DARK - bright, bright, "98 % of it is darker than L* {:.0f} of 100"),
        "too_small": (SMALL - shorter, shorter, "{:.0f} pixels on the shorter side"),
        "blurred": (BLURRED - sharp, sharp, "sharpness {:.2f} (log10 of edge energy)"),
    }
    found, seen = {}, pd.Series(False, images.index)
    for kind, (score, value, words) in tests.items():
        images[kind] = score
        here = (score > 0) & ~seen
        seen |= here
        found[kind] = _found(images.loc[here], score[here].to_numpy(), [words.format(v) for v in value[here]])
    return found


def _found(rows: pd.DataFrame, score: np.ndarray, why: list[str], more: dict[str, Any] | None = None) -> pd.DataFrame:
    """The table of a kind of finding: `COLUMNS`, then what else there is; the likeliest first."""
    table = rows.assign(score=score, why=why, **(more or {})).loc[:, [*COLUMNS, *(more or {})]]
    return table.sort_values(by=["score", "id"], ascending=[False, True])


def _doubts(dataset: Dataset, rows: pd.DataFrame, compared: np.ndarray, labelled: np.ndarray, negative: str) -> Doubts:
    targets = dataset.targets(rows).astype(np.float64)[labelled]
    return doubt(compared[labelled], targets, dataset.labels, rows["group"].to_numpy(str)[labelled], negative)


def _doubtful(images: pd.DataFrame, doubts: Doubts) -> pd.DataFrame:
    flagged = doubts.flagged
    suggested, given = np.array(doubts.suggested, object)[flagged], np.array(doubts.given, object)[flagged]
    score = doubts.score[flagged]
    why = [
        f"{other} is likelier than {own} by {margin:.2f}"
        for other, own, margin in zip(suggested, given, score, strict=True)
    ]
    return _found(images.loc[flagged], score, why, {"suggested": suggested})


def _two_labels(dataset: Dataset, images: pd.DataFrame) -> pd.DataFrame:
    """Both sides of each pair of duplicates whose labels differ."""
    where = images.drop_duplicates("id").set_index("id", drop=False)
    records = []
    for pair in contradictions(dataset).to_dict("records"):
        for side, other in (("a", "b"), ("b", "a")):
            row = where.loc[str(pair[side])]
            why = f"the same image as {pair[other]}, which is {pair[f'{other}_label']}"
            records.append({**row[["id", "file", "source", "split", "label"]], "score": pair["score"], "why": why})
    return pd.DataFrame(records, columns=COLUMNS)


def _shortcuts(dataset: Dataset, rows: pd.DataFrame, images: pd.DataFrame) -> list[Shortcut]:
    targets = dataset.targets(rows).astype(np.float64)
    measures = {name: images[name].to_numpy(np.float64) for name in MEASURES}
    told = [k for k in range(len(dataset.labels)) if np.unique(targets[~np.isnan(targets[:, k]), k]).size == 2]
    labels = [dataset.labels[k] for k in told]
    return shortcuts(measures, images["source"].tolist(), targets[:, told], labels, rows["group"].to_numpy(str))
