"""Names of metrics: one registry for reports, tables and comparisons."""

from __future__ import annotations

import pytest

from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import in_a_sentence


@pytest.mark.parametrize(
    ("name", "title", "arrow"),
    [
        ("auc_mean", "Mean AUC", "↑"),
        ("auc_seborrheic_keratosis", "AUC of seborrheic keratosis", "↑"),
        ("auc_melanoma_lesion_hidden", "AUC with the lesion hidden, melanoma", ""),
        ("partial_auc_malignant", "Partial AUC of malignant", "↑"),
        (
            "sensitivity_melanoma_at_recall_0.95",
            "Sensitivity for melanoma at the threshold for 95 % sensitivity",
            "↑",
        ),
        ("specificity_melanoma_at_balanced", "Specificity for melanoma at the balanced threshold", "↑"),
        (
            "specificity_malignant_at_recall_0.9_of_the_curve",
            "Specificity for malignant at 90 % sensitivity (read off the test ROC curve)",
            "↑",
        ),
        (
            "precision_malignant_at_recall_0.999_of_the_curve",
            "Precision for malignant at 99.9 % sensitivity (read off the test ROC curve)",
            "↑",
        ),
        (
            "specificity_malignant_at_recall_0.99_less_that_at_0.9_of_the_curve",
            "Specificity for malignant at 99 % less that at 90 % sensitivity (read off the test ROC curve)",
            "↑",
        ),
        ("sensitivity", "Sensitivity over pixels", "↑"),
        ("brier_uncalibrated", "Brier score, before calibration", "↓"),
        ("empty_predictions", "Empty outlines", "↓"),
        ("right_refused", "Pairs of one person refused", "↓"),
        ("wrong_refused", "Pairs of two people refused", "↑"),
        ("code_alignment", "Alignment (codes)", "↓"),
        ("code_precision_at_5_nevus", "Precision among 5 neighbours of nevus (codes)", "↑"),
    ],
)
def test_a_metric_has_a_name_a_direction_and_a_sentence(name, title, arrow):
    found = metric_named(name)
    assert (found.title, found.arrow) == (title, arrow)
    assert found.is_known
    assert found.sentence.endswith(".")


def test_a_metric_of_another_task_keeps_its_name_and_claims_nothing():
    found = metric_named("wound_depth")
    assert (found.title, found.better, found.is_known) == ("Wound depth", "", False)
    assert found.low is None


@pytest.mark.parametrize(
    ("name", "said"),
    [("auc_mean", "mean AUC"), ("auc_melanoma", "AUC of melanoma"), ("dice", "Dice"), ("match_f1", "matching F1")],
)
def test_a_title_inside_a_sentence(name, said):
    assert in_a_sentence(metric_named(name).title) == said
