"""A card as Markdown (MLflow, Dagster), as one HTML page that needs no network, and as JSON.

save_cards(cards, folder)     model_card.md, .html and .json, data_card.…
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derm_ml import RESEARCH_USE, formats
from derm_ml.asking.answers import SYNTHETIC
from derm_ml.cards.card import Card, CardField, Rows, plain
from derm_ml.cards.coverage import COVERAGE
from derm_ml.cards.data_card import data_card
from derm_ml.cards.model_card import model_card
from derm_ml.escape import markdown
from derm_ml.files import replacing_folder
from derm_ml.metrics.glossary import metric_named
from derm_ml.pages.page import template

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import Bundle
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.task import Task

_ROWS = 40  # of a table in Markdown, which MLflow and Dagster store with a version; JSON and HTML hold all


def cards_of(task: Task, model: Bundle, measured: Evaluation, dataset: Dataset) -> tuple[Card, Card]:
    """The model card and the data card of a model measured on a split of `dataset`."""
    return model_card(task, model, measured, dataset), data_card(task, dataset)


def save_cards(cards: Sequence[Card], folder: Path) -> Path:
    """Write all forms of the cards at `folder`, whole or not at all; `folder`."""
    with replacing_folder(folder) as temporary:
        for card in cards:
            path = temporary / f"{card.kind.replace(' ', '_')}.json"
            path.write_text(json.dumps(as_json(card), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text(as_markdown(card), encoding="utf-8")
            path.with_suffix(".html").write_text(as_html(card), encoding="utf-8")
    return folder


def as_json(card: Card) -> dict[str, Any]:
    """Every field, empty ones too; `coverage` says which items of which guideline a section answers."""
    return formats.CARD.stamped(
        {
            "kind": card.kind,
            "title": card.title,
            "research_use": RESEARCH_USE,
            "sections": {s.title: {e.name: e.value for e in s.entries} for s in card.sections},
            "missing": card.missing,
            "coverage": [
                {"guideline": i.guideline, "item": i.number, "asks": i.asks, "section": i.section}
                for i in COVERAGE
                if i.card == card.kind
            ],
        }
    )


def as_markdown(card: Card) -> str:
    """What came from data is escaped: it is shown by pages that render Markdown."""
    lines = [f"# {markdown(card.title)}", "", f"**{RESEARCH_USE}**", ""]
    if card.synthetic:
        lines += [f"**{SYNTHETIC}**", ""]
    for section in card.sections:
        lines += [f"## {section.title}", ""]
        for entry in section.entries:
            lines += [*_entry(entry), ""]
    return "\n".join(lines).rstrip() + "\n"


def _entry(entry: CardField) -> list[str]:
    name = f"**{markdown(entry.name)}**"
    if isinstance(entry.value, str):
        return [f"{name}: {markdown(entry.value) or '–'}"]
    if rows := rows_of(entry):
        return [name, "", *_table(rows)]
    texts = [str(one) for one in entry.value]
    return [name, "", *(f"- {markdown(text)}" for text in texts)] if texts else [f"{name}: –"]


def _table(rows: Rows) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(map(markdown, columns))} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(markdown(card_cell(row, name)) for name in columns)} |" for row in rows[:_ROWS]]
    return [*lines, "", f"… and {len(rows) - _ROWS} more rows"] if len(rows) > _ROWS else lines


def card_cell(row: Mapping[str, Any], name: str) -> str:
    """A value of a row as a person reads it: a metric by its title."""
    return metric_named(str(row[name])).title if name == "metric" else plain(row.get(name))


def rows_of(entry: CardField) -> list[Any]:
    """The rows of a field that is a table; empty for texts."""
    return [one for one in entry.value if isinstance(one, dict)] if not isinstance(entry.value, str) else []


def as_html(card: Card) -> str:
    """One self-contained page without a script. All text in it is escaped."""
    return template("derm_ml.cards", "card.html.j2").render(
        card=card, rows_of=rows_of, card_cell=card_cell,
        covered=[item for item in COVERAGE if item.card == card.kind],
        absent=[item for item in COVERAGE if item.card == "not covered"],
    )  # fmt: skip
