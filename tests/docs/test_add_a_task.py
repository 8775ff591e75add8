"""docs/add_a_task.md, followed word for word in a copy of the project: whoever adds a task has only this page.

The same copy shows that the contract is checked: a verb of the new task that is misspelt, missing or takes other
arguments would be found by the first user who calls it, hours into a pipeline.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from derm_ml import RESEARCH_USE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add_a_task.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TASK = Path("derm_ml") / "tasks" / "wound_tissue"
COPIED = ("derm_ml", "derm_assets", "serving", "tests/contract", "tests/snapshots")
COPIED_FILES = ("tests/conftest.py", "pyproject.toml", "params.yaml", "dvc.yaml", "dagster.yaml", "workspace.yaml")


def files_of_the_page() -> dict[str, str]:
    """Path → text of each block that names its file in its first line."""
    named = (body.partition("\n") for kind, body in BLOCKS if kind != "sh")
    return {first.removeprefix("# "): text for first, _, text in named}


def commands_of_the_page() -> str:
    (commands,) = (body for kind, body in BLOCKS if kind == "sh")
    return commands


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with the folder and the line of the page."""
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED_FILES:
        shutil.copyfile(ROOT / name, root / name)
    (root / ".venv").symlink_to(sys.prefix)
    (root / TASK).mkdir()
    for name, text in files_of_the_page().items():
        with (root / name).open("a", encoding="utf-8") as file:
            file.write(text)
    return root


def run(project: Path, commands: str) -> subprocess.CompletedProcess[str]:
    places = {"DERM_DATA", "DERM_OUT", "DERM_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in places}
    return subprocess.run(
        ["bash", "-euc", commands],
        cwd=project,
        env=environment | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )


def test_the_page_counts_its_lines():
    lines = sum(len(text.splitlines()) for name, text in files_of_the_page().items() if name.startswith("derm_ml/"))
    assert f"Ten files, {lines} lines" in PAGE
    assert len(files_of_the_page()) == 10 + 1


def test_the_code_of_the_page_is_as_make_lint_wants_it(project):
    """What is copied is committed: it must not fail there."""
    for command in ("format --check", "check"):
        done = run(project, f"{sys.executable} -m ruff {command} --no-cache {TASK}")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_page_adds_a_task_that_fulfils_the_contract(project):
    done = run(project, commands_of_the_page())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "95 % interval" in done.stdout
    (report,) = (project / "out" / "wound_tissue").glob("drawn-*/evaluation_test/report.html")
    assert RESEARCH_USE in report.read_text(encoding="utf-8")
    assert (project / "out" / "explained" / "wound_00014.explained.png").is_file()
    assert "wound_tissue" in (project / "tests/snapshots/__snapshots__/test_definitions.ambr").read_text()


@pytest.mark.slow
def test_a_verb_that_breaks_the_contract_is_named(project, tmp_path):
    """Each goes unseen by a suite that only looks for files, or that calls what it knows."""
    broken = {
        "train": ("def fit(", "def fit_all(", "train.py has no fit"),
        "predict": ("def explain(", "def explian(", "predict.explian is called by nobody"),
        "evaluate": (", split: str", "", "evaluate.evaluate takes"),
        "data": (
            "def draw(",
            "def summarise() -> None:\n    pass\n\n\ndef draw(",
            "data.summarise is called by nobody",
        ),
    }
    mutated = shutil.copytree(project, tmp_path / "mutated", symlinks=True)
    for part, (old, new, _) in broken.items():
        path = mutated / TASK / f"{part}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
    done = run(mutated, f"{sys.executable} -m pytest -q tests/contract/test_signatures.py -k wound_tissue")
    assert f"{len(broken)} failed" in done.stdout, done.stdout[-4000:]
    assert [fault for _, _, fault in broken.values() if fault not in done.stdout] == []
