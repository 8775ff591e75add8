"""The page of a comparison: what came of it stands on top in one sentence, and the cases can be looked at."""

from __future__ import annotations

import re
from html import unescape

import pytest

from derm_ml.evaluation.comparison import MeasuredModel, compare, read_run
from derm_ml.evaluation.comparison_page import Basis, comparison_page
from derm_ml.evaluation.comparison_report import difference_figure
from derm_ml.evaluation.record import Evaluation
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")


@pytest.fixture(scope="module")
def evaluations(colour_models) -> dict[str, Evaluation]:
    return {name: read_run(folder).evaluation for name, folder in colour_models.items()}


def page_of(evaluations, first, second, basis=Basis(), dataset=None) -> str:  # noqa: B008 - frozen
    runs = (MeasuredModel(first, evaluations[first]), MeasuredModel(second, evaluations[second]))
    found = compare(runs, TASK)
    return comparison_page(found, TASK, difference_figure(found), basis, dataset)


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def verdict_of(page: str) -> str:
    return text_of(re.findall(r'<section class="verdict.*?</section>', page, re.DOTALL)[0])


def test_one_sentence_on_top_says_whether_it_is_better(evaluations):
    n = evaluations["good"].n
    better = verdict_of(page_of(evaluations, "weak", "good"))
    ends = rf"\(95 % interval: \+0\.\d{{3}} to \+0\.\d{{3}}, n = {n}\)"
    assert re.match(rf"✓ good: the mean AUC is 0\.\d{{3}} higher than that of weak {ends}: superior\.", better)
    worse = verdict_of(page_of(evaluations, "good", "weak"))
    assert re.match(r"✗ weak: the mean AUC is 0\.\d{3} lower than that of good \(95 % interval: -", worse)
    assert ": inferior." in worse
    alike = {"champion": evaluations["good"], "candidate": evaluations["good"]}
    same = verdict_of(page_of(alike, "champion", "candidate"))
    assert "? candidate: the mean AUC equals that of champion to three decimals" in same
    assert "no difference in any bootstrap sample" in same  # not "+0.000 to +0.000"
    assert "not shown to be better." in same
    assert f"The two models give the same answer to all {n} cases." in same


def test_too_few_patients_decide_nothing(evaluations):
    """Ten patients with a wide gap opened the page in green."""
    said = verdict_of(page_of(evaluations, "weak", "good", Basis(patients=10_000)))
    groups = evaluations["good"].n_patients
    assert said.startswith("?")
    assert f"not enough data, {groups} of the 10000 patients that a decision needs." in said


def test_the_cases_they_differ_on_are_shown_with_their_images(evaluations, tinted_dataset):
    page = page_of(evaluations, "weak", "good", dataset=tinted_dataset)
    tables = {name: evaluations[name].predictions.set_index("id") for name in ("weak", "good")}
    labels = evaluations["good"].labels
    answers = {name: t[[f"p.{label}" for label in labels]].to_numpy().argmax(1) for name, t in tables.items()}
    truth = tables["good"][[f"target.{label}" for label in labels]].to_numpy().argmax(1)
    differ = answers["good"] != answers["weak"]
    right = int((differ & (answers["good"] == truth)).sum())
    told = f"answer differently on {differ.sum()} of {len(truth)} cases: good alone is right in {right},"
    assert told in text_of(page)
    shown = re.findall(r'<img alt="Image (\S+?), in truth ([^"]+)" src="data:image/jpeg;base64,', page)
    ids = tables["good"].index.astype(str)
    assert {name for name, _ in shown} <= set(ids[differ])
    assert len(shown) == min(12, differ.sum())
    assert all(labels[truth[list(ids).index(name)]].replace("_", " ") == said for name, said in shown)
    without = page_of(evaluations, "weak", "good")
    assert "data:image/jpeg" not in without
    assert "The dataset is not on this machine: images are named only." in without


def test_the_table_has_intervals_directions_and_whole_counts(evaluations):
    page = page_of(evaluations, "weak", "good")
    row = text_of(re.findall(r"<tr>\s*<td><strong><a href=\"#term-brier-score\">.*?</tr>", page, re.DOTALL)[0])
    assert re.match(rf"Brier score ↓ 0\.\d+ 0\.\d+ -0\.\d+ -0\.\d+ to -0\.\d+ {evaluations['good'].n} ↑ better", row)
    assert 'aria-label="lower is better"' in page
    assert re.search(r'<img alt="Differences to weak with 95 % intervals: good is better in \d+ of \d+ metrics', page)
    assert "auc_mean" not in text_of(page)
    assert not re.search(r"\d+\.0 cases", text_of(page))


def test_a_hostile_name_stays_text(evaluations):
    hostile = "</title><script>alert(1)</script>"
    found = {hostile: evaluations["weak"], "good": evaluations["good"]}
    assert "<script" not in page_of(found, hostile, "good")
