"""Evaluation on disk: promotion and the endpoint's replay re-read it, people open its report."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from derm_ml import RESEARCH_USE
from derm_ml.evaluation.record import Evaluation, EvaluationError
from derm_ml.evaluation.report import save as save_report
from derm_ml.figures.style import blank
from derm_ml.metrics.metric import Metric, not_evaluable, undefined


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        task="lesion_classification",
        title="Lesions <of the skin>",
        model_version="0123456789ab",
        recipe_name="strong",
        recipe={"side": 192, "rates": [0.1, 0.2]},
        git_commit="abc1234",
        dataset_md5="d41d8cd98f00b204e9800998ecf8427e.dir",
        split="test",
        split_hash="feedfacefeedface",
        n=3,
        n_patients=2,
        labels=("melanoma", "nevus"),
        metrics={
            "auc_mean": Metric(0.9, 0.8, 0.95, 3),
            "auc_nevus": not_evaluable(3),
            "depth": Metric(-2.5, -3, -2, 3),
        },
        predictions=pd.DataFrame({"id": ["a", "b", "c"], "p.melanoma": np.array([0.1, 1 / 3, 0.9], np.float32)}),
        tables={"per_label": [{"label": "<script>alert(1)</script>", "n": 3, "auc": None}], "empty": []},
        figures={"roc": blank("nothing")},
        captions={"roc": "What it shows."},
        notes=("Read with care.",),
    )


def test_what_is_saved_is_what_is_loaded(evaluation, tmp_path):
    folder = save_report(evaluation, tmp_path / "evaluation")
    loaded = Evaluation.load(folder)
    assert loaded.summary() == evaluation.summary()
    assert loaded.figures == evaluation.figures
    assert loaded.labels == evaluation.labels
    pd.testing.assert_frame_equal(loaded.predictions, evaluation.predictions)  # exact: the endpoint is held to 1e-5
    assert sorted(p.name for p in folder.iterdir()) == [
        "evaluation.json",
        "figures",
        "predictions.csv",
        "predictions.parquet",
        "provenance.json",
        "report.html",
    ]


def test_saving_again_gives_the_same_bytes_and_leaves_nothing_behind(evaluation, tmp_path):
    first = {p: p.read_bytes() for p in save_report(evaluation, tmp_path / "e").rglob("*.[hjc]*")}
    assert {p: p.read_bytes() for p in save_report(evaluation, tmp_path / "e").rglob("*.[hjc]*")} == first
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


@pytest.mark.parametrize("number", [math.nan, math.inf, np.float64("nan")])
def test_an_undefined_number_cannot_pass_as_a_metric(number):
    with pytest.raises(ValueError, match="undefined metric has value None"):
        Metric(number, None, None, 5)
    with pytest.raises(ValueError, match="undefined metric has value None"):
        Metric(0.5, number, 1.0, 5)
    with pytest.raises(ValueError, match="needs a note"):
        Metric(None, None, None, 5)


def test_an_undefined_metric_is_null_in_the_json_and_absent_from_the_numbers(evaluation, tmp_path):
    stored = json.loads((save_report(evaluation, tmp_path / "e") / "evaluation.json").read_text())
    assert stored["metrics"]["auc_nevus"] == {
        "value": None,
        "low": None,
        "high": None,
        "n": 3,
        "note": "not evaluable (n = 3)",
    }
    assert evaluation.numbers == {"auc_mean": 0.9, "depth": -2.5}
    assert evaluation.value("auc_nevus") is None
    with pytest.raises(KeyError, match="no metric 'auc_men'; it has auc_mean, auc_nevus"):
        evaluation.value("auc_men")


def test_nan_in_a_table_is_refused_and_the_old_evaluation_stays(evaluation, tmp_path):
    folder = save_report(evaluation, tmp_path / "e")
    evaluation.tables["per_label"][0]["auc"] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        save_report(evaluation, folder)
    assert Evaluation.load(folder).tables["per_label"][0]["auc"] is None


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("evaluation.json", None, "evaluation.json is missing: run `derm evaluate`"),
        ("predictions.parquet", None, "predictions.parquet is missing"),
        ("figures/roc.png", None, "roc.png is missing"),
        ("evaluation.json", "{", "not readable JSON"),
        ("evaluation.json", '{"schema_version": 1}', "not a whole evaluation"),
        ("evaluation.json", '{"schema_version": 9}', "has version 9 of the evaluation format"),
        ("predictions.parquet", "cut short", "predictions.parquet"),
    ],
)
def test_a_damaged_evaluation_is_not_evidence(evaluation, tmp_path, file, content, says):
    folder = save_report(evaluation, tmp_path / "e")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(EvaluationError, match=says):
        Evaluation.load(folder)


def test_nan_smuggled_into_the_json_is_not_evidence(evaluation, tmp_path):
    """Python's JSON reader takes NaN; a comparison with NaN would let a model through."""
    path = save_report(evaluation, tmp_path / "e") / "evaluation.json"
    path.write_text(path.read_text().replace('"value": 0.9', '"value": NaN'))
    with pytest.raises(EvaluationError, match="value is nan"):
        Evaluation.load(tmp_path / "e")


def test_a_metric_reads_as_a_sentence():
    assert str(Metric(0.9, 0.8, 0.95, 30)) == "0.900 (95 % 0.800 to 0.950, n = 30)"
    assert str(Metric(0.9, None, None, 30)) == "0.900 (n = 30)"
    assert str(undefined(4, "no positives")) == "undefined: no positives"


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.words.append(data)


def test_report_is_one_page_that_needs_no_network(evaluation, tmp_path):
    text = (save_report(evaluation, tmp_path / "e") / "report.html").read_text()
    page = _Page(text)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    addresses = [attrs[name] for _, attrs in page.tags for name in ("src", "href", "srcset", "action") if name in attrs]
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    assert "url(" not in text
    assert "@import" not in text
    image = next(attrs for tag, attrs in page.tags if tag == "img")
    assert base64.b64decode(image["src"].split(",")[1]) == evaluation.figures["roc"]
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {a[1:] for a in addresses if a.startswith("#")} <= targets


def test_report_shows_use_id_chain_every_metric_with_n_and_what_is_not_evaluable(evaluation, tmp_path):
    page = _Page((save_report(evaluation, tmp_path / "e") / "report.html").read_text())
    text = re.sub(r"\s+", " ", " ".join(page.words))
    assert text.index(RESEARCH_USE) < text.index("Measured on")  # before anything else
    for part in ("d41d8cd98f00b204e9800998ecf8427e.dir", "feedfacefeedface", "0123456789ab", "strong", "abc1234"):
        assert part in text
    for part in ("Mean AUC", "0.900", "0.800 to 0.950", "n = 3", "not evaluable (n = 3)", "Read with care.", "-2.500"):
        assert part in text


def test_report_escapes_what_came_from_outside(evaluation, tmp_path):
    """A class folder may be named anything; it must not run in the reader's browser."""
    text = (save_report(evaluation, tmp_path / "e") / "report.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Lesions &lt;of the skin&gt;" in text
