"""What each metric is called, which direction is better, and what it means in one plain sentence: one registry.

    metric_named("sensitivity_melanoma_at_balanced").title     'Sensitivity for melanoma at the balanced threshold'
    metric_named("brier").arrow                                '↓'

Reports, tables of the command line and comparisons read it. Names are those of `Evaluation.metrics`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from derm_ml.metrics.words import headed, point_in_words, readable, threshold_in_words

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, slots=True)
class Described:
    """A metric in words. `low` and `high` are the ends of its range (None: it has none), `chance` what a model that
    guesses gets; `title` names the label and the operating point too."""

    term: str
    sentence: str
    better: Better = "higher"
    title: str = ""
    unit: str = ""
    low: float | None = 0.0
    high: float | None = 1.0
    chance: float | None = None
    is_known: bool = True

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]

    @property
    def anchor(self) -> str:
        """What a page calls the place where the term is explained, to link to it."""
        return "term-" + re.sub(r"[^a-z0-9]+", "-", self.term.lower()).strip("-")

    @property
    def direction(self) -> str:
        return f"{self.better} is better" if self.better else "neither direction is better"


AUC = "How often a random positive case gets a higher score than a random negative one: 1 is perfect, 0.5 is chance."
F1 = "The share of matches that are right, and of true matches that are found, in one number (harmonic mean)."
STATES = "The share of conditions whose state (persistent, new, resolved) is right; a refused pair counts as wrong."
NEIGHBOURS = (
    "The share of the nearest training images, by the embedding, that carry the label of the image asked about."
)

# of the whole model
_WHOLE = {
    "auc_mean": Described("Mean AUC", f"AUC, averaged over labels. {AUC}", chance=0.5),
    "auc_worst_subgroup": Described("Lowest AUC of a subgroup", "The AUC in the subgroup with the lowest.", chance=0.5),
    "auc_widest_gap": Described(
        "Widest gap in AUC", "The largest difference in AUC between two subgroups of one attribute.", "lower"
    ),
    "balanced_accuracy": Described(
        "Balanced accuracy", "The share of right answers in each class, averaged over classes: rare ones count alike."
    ),
    "accuracy": Described("Accuracy", "The share of right answers; where one class is common, guessing it looks good."),
    "average_precision_mean": Described(
        "Mean average precision", "The area under the precision-recall curve, averaged over labels."
    ),
    "ece": Described(
        "Calibration error (ECE)",
        "How far predicted probabilities lie from observed frequencies, on average.",
        "lower",
    ),
    "ece_by_chance": Described(
        "Calibration error by chance", "What perfectly calibrated probabilities would measure on as few cases.", ""
    ),
    "brier": Described(
        "Brier score", "The mean squared distance of the probability from what turned out to be true.", "lower"
    ),
    "shortcut_score": Described(
        "Shortcut score",
        "The share of the AUC above chance that remains when the lesion is hidden: 0 is best.",
        "lower",
    ),
    "heat_in_lesion": Described(
        "Heat inside the lesion", "The share of the heatmap that lies inside the lesion's place, mean over images."
    ),
    "heat_beyond_area": Described(
        "Heat inside beyond area",
        "The heatmap's share inside the lesion's place less that of an even map.",
        low=-1.0,
        chance=0.0,
    ),
    "deletion_gain": Described(
        "Deletion against random",
        "How much more probability is lost by covering the heatmap's hottest cells first than in a random order.",
        low=-1.0,
        chance=0.0,
    ),
    "insertion_gain": Described(
        "Insertion against random",
        "How much more probability is kept by covering the heatmap's coldest cells first than in a random order.",
        low=-1.0,
        chance=0.0,
    ),
    "order_gain": Described(
        "Deletion and insertion together",
        "The probability that remains when the coldest cells go first, less that when the hottest do.",
        low=-1.0,
        chance=0.0,
    ),
    "random_head_correlation": Described(
        "Heatmap against random weights",
        "How alike the heatmap is to that of the same network with a random head (rank correlation): 1 is the same.",
        "lower",
        low=-1.0,
        chance=0.0,
    ),
    "false_refusal": Described(
        "Images refused", "The share of the task's own images about which the model gives no answer.", "lower"
    ),
    "pseudo_label_gain": Described(
        "Gain from pseudo-labels", "What learning from unlabelled images added to the AUC, on validation.", low=-1.0
    ),
    "int8_difference": Described(
        "Difference by 8-bit integers",
        "What the quantised graph adds to the AUC of the float32 graph, for masks to its mean Dice, on validation.",
        low=-1.0,
    ),
    "local_cases": Described(
        "Local cases",
        "How many labelled images of another place the probabilities and thresholds were fitted on: they are not meant "
        "for the images measured here.",
        "",
        high=None,
    ),
    "distilled_difference": Described(
        "Difference to the teacher",
        "What the network adds to the AUC of the model whose answers it learned, on validation.",
        low=-1.0,
    ),
    "dice": Described(
        "Dice", "How far predicted and true outline overlap: 1 is identical, 0 is no common pixel. Mean over images."
    ),
    "jaccard": Described("Jaccard", "Common area divided by joint area of both outlines. Mean over images."),
    "thresholded_jaccard": Described(
        "Thresholded Jaccard", "Jaccard, but an outline below 0.65 counts as a miss (0), as in the ISIC challenge."
    ),
    "hd95": Described(
        "Boundary distance (HD95)",
        "95 % of the boundary lies within this distance of the true one.",
        "lower",
        unit="px",
        high=None,
    ),
    "hd95_share": Described(
        "Boundary distance, relative", "HD95 as a share of the diagonal of the image.", "lower"
    ),
    "sensitivity": Described("Sensitivity over pixels", "The share of the lesion's pixels that were found."),
    "specificity": Described("Specificity over pixels", "The share of the other pixels that were left out."),
    "empty_predictions": Described("Empty outlines", "The share of lesions for which nothing was outlined.", "lower"),
    "confidence_rank_correlation": Described(
        "Confidence against Dice", "Whether outlines the model is surer of are better ones (Spearman).",
        low=-1.0, chance=0.0,
    ),
    "match_f1": Described("Matching F1", F1),
    "match_f1_original": Described("Matching F1, original method", f"The published method on the same pairs. {F1}", ""),
    "match_f1_unregistered": Described("Matching F1, overlap alone", f"Without registration, same pairs. {F1}", ""),
    "match_f1_delivered": Described("Matching F1, delivered pairs", F1),
    "match_f1_generated": Described("Matching F1, generated pairs", F1),
    "match_f1_harder": Described("Matching F1, harder generated pairs", F1),
    "match_precision": Described("Matching precision", "The share of the matches made that are right."),
    "match_recall": Described("Matching sensitivity", "The share of the true matches that were found."),
    "state_accuracy": Described("States right", STATES),
    "state_accuracy_delivered": Described("States right, delivered pairs", STATES),
    "state_accuracy_generated": Described("States right, generated pairs", STATES),
    "state_accuracy_harder": Described("States right, harder generated pairs", STATES),
    "registration_error": Described(
        "Registration error", "Median distance between a lesion and where it was expected.", "lower",
        unit="eye distances", high=None,
    ),
    "right_refused": Described("Pairs of one person refused", "The share that got no answer and should have.", "lower"),
    "same_person_refused": Described(
        "Pairs of one person in other light refused", "The share that got no answer and should have.", "lower"
    ),
    "harder_refused": Described(
        "Harder pairs of one person refused", "The share that got no answer and should have.", "lower"
    ),
    "wrong_refused": Described("Pairs of two people refused", "The share that was rightly not answered."),
    "psnr": Described(
        "PSNR", "How close a reconstructed image is to the original, on a logarithmic scale.", unit="dB", high=None
    ),
    "ssim": Described("SSIM", "How alike the structures of image and reconstruction are: 1 is identical.", low=-1.0),
    "checkerboard_energy": Described(
        "Checkerboard energy", "How much of a grid pattern the reconstructions show; compare with the images.", "",
        high=None,
    ),
    "silhouette": Described("Silhouette", "How clearly images of one label stand apart in the embedding.", low=-1.0),
    "knn_accuracy": Described("Accuracy of neighbours", "The share right if the nearest training images vote."),
    "knn_balanced_accuracy": Described(
        "Balanced accuracy of neighbours", "The same, averaged over classes: rare ones count alike."
    ),
    "alignment": Described("Alignment", "Mean squared distance of two images of one label.", "lower", high=4.0),
    "uniformity": Described(
        "Uniformity", "How evenly images spread over the sphere of embeddings.", "lower", low=None, high=None
    ),
}  # fmt: skip
_POSITIVES = "of the cases that have the label, the share the model finds at this operating point."
_NEGATIVES = "of the cases without the label, the share the model leaves alone at this operating point."
# with a label behind them: name of the metric → (pattern of the title, what it is)
_LABELLED = {
    "partial_auc": (
        "Partial AUC of {}",
        Described(
            "Partial AUC", "The area of the ROC curve above a sensitivity of 0.8: 0.2 is perfect, 0.02 is chance.",
            high=0.2, chance=0.02,
        ),
    ),
    "average_precision": (
        "Average precision of {}",
        Described("Average precision", "The area under the precision-recall curve; chance is the share of positives."),
    ),
    "auc": ("AUC of {}", Described("AUC", AUC, chance=0.5)),
    "sensitivity": ("Sensitivity for {}", Described("Sensitivity", f"Sensitivity: {_POSITIVES}")),
    "specificity": ("Specificity for {}", Described("Specificity", f"Specificity: {_NEGATIVES}")),
    "precision": (
        "Precision for {}", Described("Precision", "Of the cases that are flagged, the share that has the label.")
    ),
}  # fmt: skip
_LABELLED |= {
    name: (f"{_WHOLE[name].term}, {{}}", _WHOLE[name])
    for name in ("deletion_gain", "insertion_gain", "order_gain", "random_head_correlation")
}
_HIDDEN = Described(
    "AUC with the lesion hidden", "What remains when the lesion is covered: 0.5 is best.", "", chance=0.5
)
_ALONE = Described("AUC without background", f"With everything but the lesion removed. {AUC}", chance=0.5)
_CHANGED = {"_lesion_hidden": _HIDDEN, "_background_removed": _ALONE}
_OF_THE_CURVE = "_of_the_curve"  # at a sensitivity of the test split itself, not at a threshold fitted before
_READ_OFF = (
    "Read off the test ROC curve at that sensitivity: no threshold was fitted, so it ranks models and promises nothing."
)
_NEAR = re.compile(r"precision_at_(\d+)(?:_(.+))?")


def every_metric() -> dict[str, Described]:
    """Every metric that is described, by its name in an evaluation, with `<label>` where a label stands in it."""
    names = [
        *_WHOLE,
        *(f"{start}_<label>" for start in _LABELLED),
        *(f"auc_<label>{end}" for end in _CHANGED),
        "precision_at_5_<label>",
    ]
    return {name: metric_named(name) for name in names}


def metric_named(name: str) -> Described:
    """What a metric is called and means; one that is not here is called by its name, with `is_known` False."""
    if name in _WHOLE:
        return replace(_WHOLE[name], title=_WHOLE[name].term)
    if name.startswith("code_"):
        found = metric_named(name.removeprefix("code_"))
        return replace(found, title=f"{found.title} (codes)")
    if name.endswith("_uncalibrated"):
        found = metric_named(name.removesuffix("_uncalibrated"))
        return replace(found, title=f"{found.title}, before calibration")
    if near := _NEAR.fullmatch(name):
        of = f" of {readable(near[2])}" if near[2] else ""
        return Described("Precision among neighbours", NEIGHBOURS, title=f"Precision among {near[1]} neighbours{of}")
    for end, changed in _CHANGED.items():
        if name.startswith("auc_") and name.endswith(end):
            label = readable(name.removeprefix("auc_").removesuffix(end))
            return replace(changed, title=f"{changed.term}, {label}")
    for start, (pattern, found) in _LABELLED.items():
        if name.startswith(f"{start}_"):
            label, at, point = name.removeprefix(f"{start}_").partition("_at_")
            title = pattern.format(readable(label))
            if point.endswith(_OF_THE_CURVE):
                return _read_off(found, title, point.removesuffix(_OF_THE_CURVE))
            return replace(found, title=f"{title} at {threshold_in_words(point)}" if at else title)
    return Described(headed(name), "", "", headed(name), low=None, high=None, is_known=False)


def _read_off(found: Described, title: str, point: str) -> Described:
    """Of a metric at a sensitivity of the test ROC curve, or of what it is there less what it is at a lower one."""
    higher, less, lower = point.partition("_less_that_at_")
    where = point_in_words(higher)
    term = f"{found.term} on the test ROC curve"
    if not less:
        return replace(found, term=term, title=f"{title} at {where} (read off the test ROC curve)", sentence=_READ_OFF)
    where = f"{where.removesuffix(' sensitivity')} less that at {point_in_words(f'recall_{lower}')}"
    return replace(
        found, term=f"{term}, gain at its end", title=f"{title} at {where} (read off the test ROC curve)",
        sentence=f"How much less steeply it falls towards the high-sensitivity end. {_READ_OFF}", low=-1.0,
    )  # fmt: skip
