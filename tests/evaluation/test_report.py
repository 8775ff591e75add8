"""What a reader of a report sees first: whether the model may be promoted and why, then what it finds and misses."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import Opening, cell, render, whisker, whole
from derm_ml.evaluation.verdicts import FAILED, PASSED, UNKNOWN, Conclusion, Verdict, too_little, unchecked
from derm_ml.figures.style import blank
from derm_ml.metrics.metric import Metric, undefined
from derm_ml.task import Finding, Gate

FEW = "no threshold for 99 % sensitivity: 299 positive validation cases are needed"
SHORTCUT = Verdict(
    "ranks_by_the_lesion", "reads the ruler", FAILED, "fails without a ruler", True, "0.9", "at most 0.5"
)
TINY = Verdict("fails_no_subgroup", "not checked: every subgroup is too small", UNKNOWN, "wrong for one group")
FINE = Verdict("ranks_better_than_chance", "AUC 0.974", PASSED, "says nothing", True, "0.974", "above 0.5")
WARNED = Verdict("holds_under_stress", "hair costs most", FAILED, "fails on hair", False, "+0.2", "at most 0.1")


@pytest.fixture
def screening() -> Evaluation:
    """28 lesions as a two-class model answers them: of 14 cancers one is missed, of 14 others two are flagged."""
    p = np.r_[np.full(13, 0.9), 0.1, np.full(2, 0.8), np.full(12, 0.05)]
    targets = np.repeat([1.0, 0.0], 14)
    return Evaluation(
        task="malignancy_screening",
        title="Benign or malignant",
        model_version="0123456789ab",
        recipe_name="strong",
        recipe={},
        git_commit="abc1234",
        dataset_md5="d41d8cd98f00b204e9800998ecf8427e.dir",
        split="test",
        split_hash="feedfacefeedface",
        n=28,
        n_patients=28,
        labels=("malignant",),
        metrics={
            "auc_malignant": Metric(0.974, 0.9, 1.0, 28),
            "partial_auc_malignant": Metric(0.19, 0.15, 0.2, 28),
            "sensitivity_malignant_at_recall_0.95": Metric(13 / 14, 0.66, 0.998, 14),
            "specificity_malignant_at_recall_0.95": Metric(12 / 14, 0.57, 0.98, 14),
            "sensitivity_malignant_at_recall_0.99": undefined(14, FEW),
            "specificity_malignant_at_recall_0.99": undefined(14, FEW),
            "auc_worst_subgroup": undefined(28, "every subgroup is too small"),
        },
        predictions=pd.DataFrame(
            {"id": [f"i{k}" for k in range(28)], "group": [f"g{k}" for k in range(28)],
             "target.malignant": targets, "p.malignant": p}
        ),
        tables={
            "confusion_matrix": [
                {"truth": "benign", "benign": 12, "malignant": 2},
                {"truth": "malignant", "benign": 1, "malignant": 13},
            ],
            "operating_points": [
                {"point": "recall_0.95", "threshold": 0.5, "specificity": 0.857, "negatives": 14.0, "remark": ""},
                {"point": "recall_0.99", "threshold": None, "specificity": None, "negatives": None, "remark": "few"},
            ],
        },
        figures={"roc": blank("nothing")},
    )  # fmt: skip


def text_of(page: str) -> str:
    """What is read on the page, in one line."""
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_a_model_with_a_failed_check_does_not_open_with_its_auc(screening):
    """The page opened with "AUC 0.974" and did not hold the checks at all."""
    text = text_of(render(screening, Opening((FINE, TINY, SHORTCUT, WARNED), "recall_0.95")))
    assert text.index("Not ready to promote") < text.index("Of 14 malignant cases") < text.index("0.974")
    assert "1 of 4 checks failed: ranks by the lesion. Not enough data for fails no subgroup." in text
    assert "Warnings, which refuse nothing: holds under stress." in text
    order = [text.index(check.check.replace("_", " ").capitalize()) for check in (SHORTCUT, WARNED, TINY, FINE)]
    assert order == sorted(order)
    for check in (SHORTCUT, TINY, FINE, WARNED):
        for part in (check.value, check.limit, check.hazard, check.evidence.removeprefix("not checked: ")):
            assert part in text


def test_a_check_that_nobody_could_carry_out_is_grey_and_no_green_tick(screening):
    page = render(screening, Opening((FINE, TINY)))
    assert 'class="state unknown"' in page
    assert "Not enough data" in page
    assert "Ready to promote" not in page


def test_a_threshold_that_could_not_be_fitted_is_grey_and_refuses_all_the_same():
    """It was shown as failed, as if the model had missed cancers."""
    gate = Gate("recall_at_operating_point", lambda _: Finding.not_enough_data(FEW))
    missing = Verdict.of(gate, gate.check(None))  # type: ignore[arg-type]
    assert missing.verdict == UNKNOWN
    assert missing.stops
    assert gate.stops(Finding.not_enough_data(FEW))
    assert unchecked((missing,)) == ()  # it is a reason of its own, not a remark beside a promotion
    assert "299 positive validation cases" in too_little(missing)
    assert Conclusion.of((FINE, missing)).title == "Not enough data"
    assert not Verdict.of(replace(gate, blocking=False), gate.check(None)).stops  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("checks", "elsewhere", "title"),
    [
        ((FINE,), "", "Ready to promote"),
        ((FINE, WARNED), "", "Ready to promote"),
        ((FINE, TINY), "", "Not enough data"),
        ((FINE, TINY, SHORTCUT), "", "Not ready to promote"),
        ((FINE,), "the validation split", "No evidence for promotion"),
        ((SHORTCUT,), "the validation split", "No evidence for promotion"),
    ],
)
def test_the_banner_says_what_all_checks_come_to(checks, elsewhere, title):
    found = Conclusion.of(checks, elsewhere)
    assert found.title == title
    assert elsewhere in found.why
    assert ("ranks by the lesion" in found.why) is (SHORTCUT in checks)


def test_the_result_is_said_in_words_where_the_service_decides(screening):
    words = (
        "Of 14 malignant cases the model found 13 and missed 1; of 14 benign cases it flagged 2. The true sensitivity"
    )
    assert f"{words} could be as low as 66 %." in text_of(render(screening, Opening(point="recall_0.95")))
    without = text_of(render(screening, Opening(point="recall_0.99")))
    assert (
        "For malignant there is no threshold for 99 % sensitivity, where the service would decide: 299 positive"
        in without
    )
    assert words not in without


def test_of_exclusive_labels_each_is_told_by_the_most_likely_class(screening):
    """A patient with nine images must not make nine proofs: the bound is that of patients."""
    p, target = np.eye(3)[[0, 0, 1, 1, 1, 2]], np.eye(3)[[0, 0, 0, 1, 1, 2]]
    labels = ("melanoma", "nevus", "keratosis")
    table = {f"p.{name}": p[:, k] for k, name in enumerate(labels)}
    table |= {f"target.{name}": target[:, k] for k, name in enumerate(labels)}
    shown = replace(screening, labels=labels, predictions=pd.DataFrame(table | {"group": [*"aabbcc"]}))
    text = text_of(render(shown))
    assert "Of 3 cases of melanoma the model found 2 and missed 1; of 3 other cases it flagged 0." in text
    assert "Where the service decides" not in text  # it decides by rank: a threshold is a further decision
    assert "Of 2 cases of nevus the model found 2 and missed 0; of 4 other cases it flagged 1." in text


def test_a_model_of_synthetic_images_says_so_on_top(screening):
    """ "AUC of melanoma 1.000" on synthetic images travels."""
    assert "Synthetic images: these results" not in render(screening)
    for shown in (replace(screening, synthetic=True), replace(screening, recipe_name="drawn")):
        text = text_of(render(shown))
        assert text.index("Synthetic images: these results") < text.index("0.974")


def test_a_metric_leads_to_what_it_means(screening):
    """A reader who does not know "partial AUC" clicks it; the place must be on the page, which is sent on alone."""
    page = render(screening)
    links, places = (re.findall(rf'{kind}"#?(term-[^"]+)"', page) for kind in ("href=", "id="))
    assert "term-partial-auc" in links
    assert set(links) <= set(places)
    assert len(places) == len(set(places))


def test_what_could_not_be_measured_is_folded_and_counted(screening):
    page = render(screening)
    folded = page[page.index("<summary>Could not be measured (3)") :]
    assert "every subgroup is too small" in folded[: folded.index("</details>")]
    assert "<summary>Operating points without a threshold (1)</summary>" in page
    tables = page[page.index('id="tables"') :]
    assert "<table" not in re.sub(r"<details>.*?</details>", "", tables, flags=re.DOTALL)


def test_a_partial_area_lies_on_its_own_range_and_says_what_chance_is():
    """0.19 of 0.2 looked like the worst of all metrics."""
    place = whisker(Metric(0.19, 0.15, 0.2, 28), "partial_auc_malignant")
    assert place == pytest.approx({"left": 75, "width": 25, "value": 95, "chance": 10})
    assert whisker(Metric(4.2, 3.0, 5.4, 12), "hd95") is None


def test_counts_are_whole_numbers_and_scores_are_not():
    rows = [{"positives": 24.0, "auc": 1.0, "n": 3}, {"positives": None, "auc": 0.0, "n": 4}]
    assert whole(rows) == {"positives", "n"}
    assert (cell(24.0, True), cell(1.0, False), cell(None)) == ("24", "1.000", "–")


def test_an_image_tells_its_finding_to_those_who_do_not_see_it(screening):
    assert 'alt="ROC: AUC of malignant 0.974 (0.900 to 1.000)."' in render(screening)
