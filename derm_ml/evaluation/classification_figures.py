"""The figures of a classifier's report, and the sentence below each figure and table."""

from __future__ import annotations

from collections.abc import Sequence

from derm_ml.bundles.classifier import Classifier
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.classification_metrics import Measured
from derm_ml.evaluation.record import Row
from derm_ml.explain.overlay import overlay
from derm_ml.figures.charts import co_occurrence_figure, confusion_figure, reliability_figure
from derm_ml.figures.curves import precision_recall_figure, roc_figure, score_histogram
from derm_ml.figures.sheets import Sheet
from derm_ml.metrics.words import readable
from derm_ml.predictions.classifier import Predictions

CAPTIONS = {
    "roc": "Bands: pointwise 95 % intervals (bootstrap over patients).",
    "confusion_matrix": "Row: truth. Column: the most likely class, whatever its probability; no threshold is used. "
    "The small figure is the share of the row.",
    "reliability": "On the diagonal, predicted probabilities match observed frequencies. Bins hold equally many "
    "cases; bars are exact 95 % intervals; the grey marks at the foot show where the predictions lie. "
    "Dashed: before calibration.",
    "precision_recall": "The thin horizontal line is the chance level, the share of positives. Bands as above.",
    "score_histogram": "How far apart the probabilities of cases with and without the label lie.",
    "confident_mistakes": "The most confident errors with their heatmaps. Check them: some labels may be wrong.",
    "operating_points": "Thresholds were fitted on validation only and are measured here. Intervals: exact "
    "(Clopper-Pearson) or patient bootstrap, whichever is wider.",
    "subgroups": "AUC in each subgroup. Groups with fewer than 10 positives or 10 negatives are not evaluated. Tone of "
    "skin: as a person read it, else estimated from the pixels around the lesion (ITA), which the light shifts.",
    "prediction_sets": "Sets of classes that cannot be ruled out, with limits fitted on validation: to hold the right "
    "class in at least 90 of 100 cases of each class. That is no promise for a sub-group: look at its row.",
    "stress": "What the mean AUC loses when the same images are changed; at most 30 images of each label.",
    "explanations": "Mean probability of the label while the cells of its heatmap are covered. In a faithful heatmap "
    "the hottest cells matter most: red lies below the grey line of a random order, blue above it.",
    "co_occurrence": "Cases that carry both labels; on the diagonal, all that carry the label. Left the truth, right "
    "what was decided. The small figure is the share of the row.",
    "pseudo_labels": "How often the labels given to unlabelled images were right, where the truth is known. Validation "
    "images are hidden from network, PCA and graph. Share in truth: what a blind guess would reach.",
    "per_label": "Each label against the rest.",
}


def figures(
    cases: Cases, measured: Measured, mistakes: Sequence[tuple[int, Row]], classifier: Classifier, of: Predictions
) -> dict[str, bytes | Sheet]:
    """Every figure by its name, as PNG or as a sheet of images; `mistakes` are (place among the cases, row) of the most
    confident ones."""
    columns = cases.columns(cases.scored)
    p, y = cases.probabilities[:, columns], cases.targets[:, columns]
    figures: dict[str, bytes | Sheet] = {
        "roc": roc_figure(p, y, cases.scored, cases.groups, measured.areas, cases.labels)
    }
    if (confusion := cases.confusion()) is not None:
        figures["confusion_matrix"] = confusion_figure(confusion[1], confusion[0])
    if (together := cases.co_occurrence()) is not None:
        figures["co_occurrence"] = co_occurrence_figure(*together, cases.labels)
    figures["precision_recall"] = precision_recall_figure(
        p, y, cases.scored, measured.precisions, cases.groups, cases.labels
    )
    figures["reliability"] = reliability_figure(p, y, cases.scored, cases.uncalibrated[:, columns], cases.labels)
    thresholds: dict[str, dict[str, float]] = {}
    for point in cases.card.operating_points:
        thresholds.setdefault(point.label, {})[point.name] = point.threshold
    figures["score_histogram"] = score_histogram(p, y, cases.scored, thresholds, cases.labels)
    if mistakes:
        figures["confident_mistakes"] = _gallery(cases, mistakes, classifier, of)
    return figures


def _gallery(cases: Cases, mistakes: Sequence[tuple[int, Row]], classifier: Classifier, of: Predictions) -> Sheet:
    """The images of the mistakes, each beside the heatmap of the label that was said or missed."""
    pairs, captions = [], []
    for i, row in mistakes:
        image = of.dataset.image(of.rows.iloc[i])
        label = next(name for name in (row["predicted"], row["truth"]) if name in cases.labels)
        cam = of.outputs.maps[i, cases.labels.index(label)]
        pairs.append((image, overlay(image, classifier.unsquared(cam, image))))
        said = f"Predicted: {readable(row['predicted'])} ({row['probability']:.0%})"
        captions.append(f"{row['id']}\n{said}\nTrue: {readable(row['truth'])}")
    return Sheet(pairs, captions, columns=3)
