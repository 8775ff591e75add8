"""Cards: what a reviewer is told, and that nothing a reviewer needs may be missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt

from derm_ml.bundles.bundle import Bundle
from derm_ml.cards.card import Card, CardField, Section
from derm_ml.cards.coverage import ABSENT, COVERAGE
from derm_ml.cards.pages import as_html, as_json, as_markdown, cards_of, save_cards
from derm_ml.cards.statement import Statement, StatementError
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.metric import undefined
from derm_ml.registry import all_tasks, get_task

OLD = Path(__file__).parents[1] / "fixtures" / "format_1"
TASK = get_task("lesion_classification")


@pytest.fixture(scope="module")
def parts() -> tuple[Bundle, Evaluation, Dataset]:
    model = OLD / "out" / TASK.name / "drawn-0"
    dataset = Dataset.open(OLD / "dataset" / TASK.name)
    return Bundle.open(model / "bundle"), Evaluation.load(model / "evaluation_test"), dataset


def entries(card: Card) -> dict[str, CardField]:
    return {entry.name: entry for section in card.sections for entry in section.entries}


@pytest.fixture
def said(monkeypatch, tmp_path):
    """`said(text)`: what card.yaml of the task holds."""
    monkeypatch.setattr("derm_ml.cards.statement.files", lambda _: tmp_path)
    return lambda text: (tmp_path / "card.yaml").write_text(text, encoding="utf-8")


def test_both_cards_are_whole(parts):
    assert [card.missing for card in cards_of(TASK, *parts)] == [[], []]


@pytest.mark.parametrize("name", all_tasks())
def test_every_task_says_what_only_a_person_can_say(name):
    """Otherwise its models are never promoted."""
    stated = Statement.of(get_task(name))
    assert [field for field in Statement.model_fields if not getattr(stated, field)] == []


def test_an_empty_field_is_named_with_the_place_to_write_it(parts, said):
    said("intended_use: something\nlimitations: []\nrisks: ['']\n")
    model, data = (card.missing for card in cards_of(TASK, *parts))
    place = "into derm_ml/tasks/lesion_classification/card.yaml"
    assert f"the model card says nothing under 'limitations' (Warnings): write `limitations` {place}" in model
    assert f"the model card says nothing under 'risks' (Warnings): write `risks` {place}" in model
    assert any("'reference standard'" in sentence for sentence in data)
    assert not any("'intended use'" in sentence for sentence in model)


def test_a_task_without_a_file_is_told_every_field(parts, said):
    missing = cards_of(TASK, *parts)[0].missing
    assert len(missing) == len(Statement.model_fields)


def test_an_undefined_primary_metric_leaves_the_card_incomplete(parts):
    bundle, measured, dataset = parts
    without = replace(measured, metrics=measured.metrics | {TASK.primary_metric: undefined(0, "no positives")})
    assert "Mean AUC is undefined; evaluate" in cards_of(TASK, bundle, without, dataset)[0].missing[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [("risks: [", "cannot be read"), ("rissks: [a]", "rissks"), ("- a", "not readable in the card-statement format")],
)
def test_a_broken_file_is_one_sentence(said, text, why):
    said(text)
    with pytest.raises(StatementError, match=why):
        Statement.of(TASK)


def test_numbers_carry_their_interval_bound_and_n(parts):
    bundle, measured, dataset = parts
    found = entries(cards_of(TASK, bundle, measured, dataset)[0])
    metrics = {row["metric"]: row for row in found["metrics"].value}
    primary = measured.metrics[TASK.primary_metric]
    assert metrics[TASK.primary_metric] == {
        "metric": TASK.primary_metric, "value": primary.value, "low": primary.low, "high": primary.high,
        "n": primary.n, "note": primary.note,
    }  # fmt: skip
    points = found["operating points, fitted on validation"].value
    assert [row["point"] for row in points] == [point.name for point in bundle.card.operating_points]
    assert {row["check"] for row in found["checks"].value} == {gate.name for gate in TASK.gates}
    assert {row["sha256"] for row in found["files"].value} == set(bundle.card.files.values())


def test_the_data_card_names_no_image_and_no_patient(parts):
    """It is shown to people who may not see who was photographed."""
    _, _, dataset = parts
    text = as_markdown(cards_of(TASK, *parts)[1])
    named = set(dataset.manifest["id"]) | (set(dataset.manifest["patient"]) - {""})
    assert [name for name in named if name in text] == []


def test_what_data_put_into_a_card_does_nothing(parts):
    """A licence or a source is a text of whoever delivered the images; MLflow and Dagster render Markdown."""
    evil = "![x](http://evil/a.png) <script>alert(1)</script> | a\n# heading"
    card = Card("data card", evil, (Section("Composition", (CardField(evil, [{evil: evil}]), CardField("b", [evil]))),))
    rendered = MarkdownIt("js-default", {"html": True}).enable("table").render(as_markdown(card))
    assert rendered.count("<h1") == 1
    page = as_html(card)
    for text in (rendered, page):
        assert "<img" not in text
        assert "<script" not in text


def test_every_form_says_the_same(parts, tmp_path):
    folder = save_cards(cards_of(TASK, *parts), tmp_path / "cards")
    assert {path.name for path in folder.iterdir()} == {
        f"{kind}_card.{form}" for kind in ("model", "data") for form in ("md", "html", "json")
    }
    for kind in ("model", "data"):
        stored = json.loads((folder / f"{kind}_card.json").read_text())
        page, text = ((folder / f"{kind}_card.{form}").read_text() for form in ("html", "md"))
        for title, fields in stored["sections"].items():
            assert f">{title}</h2>" in page
            assert f"## {title}\n" in text
            assert all(name in page for name in fields)


@pytest.mark.parametrize(("guideline", "items"), [("TRIPOD+AI", 27), ("CLAIM", 44)])
def test_every_item_of_a_guideline_is_accounted_for(guideline, items):
    """An item nobody mentions passes for answered."""
    found: set[int] = set()
    for item in (item for item in COVERAGE if item.guideline == guideline):
        for part in item.number.split(", "):
            first, _, last = part.rstrip("abcdefg").partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    assert found == set(range(1, items + 1))


def test_the_coverage_table_points_at_sections_there_are(parts):
    """A dossier that cites a section nobody finds is worth nothing."""
    cards = {card.kind: {section.title for section in card.sections} for card in cards_of(TASK, *parts)}
    assert [i for i in COVERAGE if i.card != ABSENT and i.section not in cards[i.card]] == []
    model = cards_of(TASK, *parts)[0]
    assert {row["guideline"] for row in as_json(model)["coverage"]} == {"TRIPOD+AI", "CLAIM"}
    assert as_html(model).count("not covered: ") == sum(item.card == ABSENT for item in COVERAGE)


def test_a_metric_is_called_by_its_name_in_every_form_people_read(parts):
    """The card in MLflow said `auc_mean` and `sensitivity_melanoma_at_balanced`."""
    card = cards_of(TASK, *parts)[0]
    for text in (as_markdown(card), as_html(card)):
        assert "auc_mean" not in text
        assert "Mean AUC" in text
        assert "Changed in it" in text or "changed in it" in text


def test_the_card_of_a_model_for_synthetic_images_says_so_on_top(parts):
    """Its numbers are perfect, and travel."""
    bundle, measured, dataset = parts
    for name, warned in (("drawn", True), ("strong", False)):
        shown = SimpleNamespace(version=bundle.version, card=bundle.card.model_copy(update={"recipe_name": name}))
        card = cards_of(TASK, shown, measured, dataset)[0]
        assert ("synthetic images" in as_markdown(card)[:400]) is warned
        assert ('class="synthetic"' in as_html(card)) is warned
