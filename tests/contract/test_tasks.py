"""What every task must fulfil. A new folder in derm_ml/tasks is tested here without a line of new test code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from derm_ml.asking.answers import Envelope
from derm_ml.promotion.policy import Policy
from derm_ml.recipe import Recipe
from derm_ml.registry import all_tasks
from derm_ml.task import Task

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(p.name for p in (ROOT / "derm_ml" / "tasks").iterdir() if p.is_dir() and (p / "__init__.py").exists())
SENTENCE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")


@pytest.fixture(params=list(all_tasks().values()), ids=lambda task: task.name)
def task(request) -> Task:
    return request.param


def test_every_folder_is_a_task():
    """A folder that is passed over would be a task its author waits for in vain."""
    assert sorted(all_tasks()) == FOLDERS


def test_it_is_named_like_its_folder(task):
    assert task.name in FOLDERS


def test_it_has_a_line_in_params_yaml(task):
    """Without it `dvc repro prepare@<task>` does not exist. Add `  <task>: {}` below `tasks:`."""
    sections = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["tasks"]
    assert task.name in sections, f"params.yaml: add the line `  {task.name}: {{}}` below `tasks:`"
    task.settings(**(sections[task.name] or {}))


def test_params_yaml_names_no_task_that_is_gone():
    sections = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["tasks"]
    assert set(sections) <= set(all_tasks())


def test_labels_are_distinct_identifiers(task):
    """They become column names, metric names and JSON keys."""
    assert len(set(task.labels)) == len(task.labels) > 0
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in task.labels)


def test_recipes_fill_themselves_and_say_what_to_expect(task):
    """A form without defaults cannot be launched; a recipe without words cannot be chosen."""
    for name, recipe in task.recipes.items():
        assert issubclass(recipe, Recipe)
        assert task.recipe(name).name == name
        assert (recipe.__doc__ or "").strip()


def test_a_wrong_recipe_value_is_named(task):
    with pytest.raises(ValueError, match="no_such_value"):
        task.recipe("", no_such_value=1)


def test_rules_and_gates_are_sentences(task):
    """They are the names of the checks people see."""
    names = [s.name for s in (*task.rules, *task.gates)]
    assert len(set(names)) == len(names)
    assert all(SENTENCE.fullmatch(name) for name in names)
    assert all(s.description for s in (*task.rules, *task.gates, *task.artifacts))


def test_something_can_stop_the_line(task):
    """A task without a blocking rule and a blocking gate promotes anything."""
    assert any(rule.blocking for rule in task.rules)
    assert any(gate.blocking for gate in task.gates)


def test_artifacts_do_not_take_a_step_s_name(task):
    taken = {"incoming_batch", "dataset", "model", "evaluation", "registered_model", "promoted_model", "bento"}
    assert not taken & {artifact.name for artifact in task.artifacts}


def test_it_says_what_a_champion_must_show(task):
    Policy.of(task)


def test_it_says_what_it_is_asked_with_in_plain_words(task):
    """The API description, the page and `derm tasks` show nothing else."""
    options = task.asking.options
    assert len({option.name for option in options}) == len(options)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", option.name) for option in options)
    assert all(len(option.help.split()) > 2 for option in options)
    schema = task.asking.answer.model_json_schema()
    assert schema["description"].endswith(".")
    assert schema["properties"]
    taken = {*Envelope.model_fields, "prediction_id", "bento", "options_ignored"}
    assert not taken & set(schema["properties"]), "the envelope has a field of that name"


def test_it_has_the_inner_shape_of_every_task(task):
    folder = ROOT / "derm_ml" / "tasks" / task.name
    wanted = {"task.py", "asking.py", "recipes.py", "data.py", "train.py", "evaluate.py", "predict.py", "policy.yaml"}
    assert wanted <= {p.name for p in folder.iterdir()}


def test_what_it_draws_it_can_read(task, tmp_path):
    """Drawn sets are the demo and the tests: every label, every split, nothing quarantined."""
    task.draw(tmp_path / "drawn", 30, seed=1)
    reading = task.read(tmp_path / "drawn", task.settings())
    assert not reading.problems
    assert {name for sample in reading.samples for name, value in sample.target.items() if value == 1} == set(
        task.labels
    )


def test_drawing_is_the_same_every_time(task, tmp_path):
    for folder in ("a", "b"):
        task.draw(tmp_path / folder, 6, seed=3)
    first, second = (sorted(p for p in (tmp_path / f).rglob("*") if p.is_file()) for f in ("a", "b"))
    assert [p.name for p in first] == [p.name for p in second]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
