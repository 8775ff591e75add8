"""What there is and how it stands: recipes, the installation, a task; and questions that leave nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer.main

from derm_ml.cli import VERBS, app, terminal
from derm_ml.cli.recipes import settings_of_recipe
from derm_ml.progress import EpochReport
from derm_ml.registry import all_tasks

LC = "lesion_classification"


@pytest.mark.parametrize("task", all_tasks())
def test_every_setting_has_a_type_a_value_and_a_sentence(task):
    for name in all_tasks()[task].recipes:
        for setting, kind, value, what in settings_of_recipe(all_tasks()[task].recipe(name)):
            assert kind, (name, setting)
            assert value, (name, setting)
            assert what, (name, setting)


def test_a_recipe_is_shown_as_it_is_set(derm):
    code, out, _ = derm("recipe", LC)
    assert code == 0
    assert all(name in out for name in all_tasks()[LC].recipes)
    code, out, _ = derm("recipe", LC, "drawn")
    assert code == 0
    recipe = all_tasks()[LC].recipe("drawn")
    assert f"optimiser.epochs = {recipe.optimiser.epochs}  (whole number, ≥ 1)" in out
    assert "passes over the training images" in out


def test_the_version(derm):
    code, out, _ = derm("--version")
    assert code == 0
    assert out.startswith("derm ")
    assert out.split()[1][0].isdigit()


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (f"status {LC}", 0, "champion: none"),
        ("check", 0, "is made by the first training or promotion"),
        (f"champion {LC}", 2, "has no champion: train a model"),
        (f"history {LC}", 0, ""),
        (f"predict {LC} IMAGE", 2, "has no champion"),
    ],
)
def test_a_question_makes_no_database(derm, tmp_path, monkeypatch, images, arguments, code, said):
    """Ten seconds of migrations, and a database in a folder where nobody has ever trained anything."""
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))
    before = everything(tmp_path)
    found, out, err = derm(*arguments.replace("IMAGE", str(images / "2_spot.png")).split())
    assert found == code, err
    assert said in out + err
    assert everything(tmp_path) == before


def test_a_folder_that_cannot_be_used_is_named_and_the_rest_is_checked(derm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DERM_OUT", str(tmp_path / "file" / "out"))
    code, out, _ = derm("check")
    assert code == 1
    assert f"FAIL folders: DERM_OUT is {tmp_path / 'file' / 'out'}, but {tmp_path / 'file'} is a file" in out
    assert "ok   registry" in out


def test_the_latest_trainings_are_listed_whether_they_finished_or_not(derm, drawn_dataset, tmp_path):
    shutil.copytree(drawn_dataset.path, tmp_path / "data" / "prepared" / LC)
    (tmp_path / "out" / LC / "strong-1" / "bundle").mkdir(parents=True)
    (tmp_path / "out" / LC / "strong-1" / "bundle" / "bundle.json").write_text("{}")
    (tmp_path / "out" / LC / "strong-2").mkdir()
    (tmp_path / "out" / LC / "strong-2" / "history.json").write_text("[]")
    code, out, _ = derm("status", LC)
    assert code == 0
    assert f"md5 {drawn_dataset.md5}" in out
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if "│ strong" in line}
    assert "not finished" in rows["strong-2"]
    assert "finished" in rows["strong-1"]
    assert "not evaluated" in rows["strong-1"]
    assert max(map(len, out.splitlines()[-8:])) <= 80


@pytest.mark.parametrize("verb", [verb.__name__.replace("_", "-") for verb in VERBS])
def test_help_says_what_was_written(derm, verb):
    """`<into>/<task>/<name>` was taken for markup, and the sentence had holes."""
    command = typer.main.get_command(app).commands[verb]
    _, out, _ = derm(verb, "--help")
    shown = set(out.replace("│", " ").replace("`", "").split())
    for parameter in command.params:
        written = (getattr(parameter, "help", "") or "").replace("`", "").split()
        assert set(written) <= shown, parameter.name


def test_an_epoch_is_one_line_of_80_columns_with_two_names_for_two_losses(capfd, monkeypatch):
    monkeypatch.setattr(terminal.notes, "width", 80)
    figures = {"loss": 0.41235, "auc_mean": 0.91234, "auc_melanoma": 0.88123, "balanced_accuracy": 0.77123}
    terminal.say_epoch(EpochReport(3, 120, 0.51234, figures, 0.001, 61.2, 123.4, True))
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "  3/120  loss train 0.5123 val 0.4123  auc_mean 0.9123  2.0 h left  best"
    assert len(line) <= 80


def test_progress_goes_into_a_log_now_and_then(capfd, monkeypatch):
    """600 images took twelve minutes in silence."""
    monkeypatch.setattr(terminal.notes, "width", 80)
    now = 0.0
    lines = terminal.Lines("prepare", clock=lambda: now)
    step = lines.add_task("decode", total=600)
    for _ in range(60):
        now += 1.0
        lines.advance(step)
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "prepare · decode: 15 of 600, about 10 min left"
    assert len(said) == 4
