"""The generated reference is whole: what the program knows and the page does not, nobody would find."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derm_ml.cli import VERBS
from derm_ml.cli.recipes import settings_of_recipe
from derm_ml.formats import FORMATS
from derm_ml.metrics.glossary import every_metric
from derm_ml.registry import all_tasks, get_task
from documents import api, commands, lessons, measures, reference, services

ROOT = Path(__file__).parents[2]
# set by the program for its own processes; nobody sets them
INTERNAL = {"DERM_PORT", "DERM_FOLLOW", "DERM_SAID", "DERM_STARTED_BY"}


def test_every_verb_and_option_is_on_the_page():
    page = commands.commands()
    for verb in VERBS:
        assert f"## derm {verb.__name__.replace('_', '-')}\n" in page
    for option in ("--dry-run", "--set", "--facts", "--plant"):
        assert f"`{option}`" in page
    assert "`NAME=VALUE`" in page


def test_every_variable_the_code_reads_is_on_the_page():
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for package in ("derm_ml", "derm_assets", "serving")
        for path in (ROOT / package).rglob("*.py")
    )
    read = set(re.findall(r"\"(DERM_[A-Z_]+[A-Z])\"", code)) - INTERNAL
    assert len(read) > 20
    page = reference.environment()
    assert sorted(name for name in read if f"`{name}`" not in page) == []


def test_every_setting_of_every_recipe_is_on_the_page():
    page = reference.recipes()
    for task in all_tasks().values():
        for name in task.recipes:
            assert f"### `{name}` of {task.name}" in page
            for setting, *_ in settings_of_recipe(task.recipe(name)):
                assert f"| `{setting}` |" in page


def test_checks_metrics_formats_and_answers_are_on_their_pages():
    checks, metrics, formats, http = measures.checks(), measures.metrics(), measures.files(), services.http()
    for task in all_tasks().values():
        for one in (*task.rules, *task.gates):
            assert f"`{one.name}`" in checks
        assert f"### Answer of {task.name}" in http
        for option in task.asking.options:
            assert f"`{option.name}`" in http
    for name in every_metric():
        assert f"`{name}`" in metrics
    for name in FORMATS:
        assert f"`{name}`" in formats


def test_each_metric_of_the_glossary_has_a_sentence_and_a_place_of_its_own():
    places = {}
    for name, of in every_metric().items():
        assert of.is_known, name
        assert of.sentence.endswith("."), name
        assert places.setdefault(of.anchor, of.term) == of.term


def test_a_page_quotes_what_the_results_teach():
    page = lessons.lessons()
    assert page.count("[The figures](results.md#") >= 6
    assert "class Task" in api.python()


TEMPLATES = (ROOT / "docs" / "howto" / "csv_templates.md").read_text(encoding="utf-8")
LISTS = re.findall(r"^```text\n(.*?)^```$", TEMPLATES, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("task", "lists"),
    [
        ("lesion_classification", {"labels.csv": "filename,label,split,patient_id"}),
        ("malignancy_screening", {"labels.csv": "filename,label,split,patient_id"}),
        ("retinal_findings", {"train.csv": "filename,patient_id,eye"}),
        ("persistent_conditions", {"boxes.csv": "filename,label,x1", "pairs.csv": "first,second"}),
    ],
)
def test_a_template_of_a_list_is_read_as_it_stands(task, lists, tmp_path):
    """Whoever copies a template and gets an error has lost an hour and some trust."""
    names = set()
    for file, start in lists.items():
        (text,) = (one for one in LISTS if one.startswith(start))
        (tmp_path / file).write_text(text, encoding="utf-8")
        names |= set(re.findall(r"[\w]+\.jpg", text))
    for number, name in enumerate(sorted(names)):
        pixels = np.random.default_rng(number).integers(0, 255, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    found = get_task(task)
    reading = found.read(tmp_path, found.settings())
    assert {Path(file).name for sample in reading.samples for file in sample.files.values()} == names
    assert list(reading.problems) == []
