"""The tutorials, run cell by cell as Jupyter does: a command that changed would stop a reader at that cell.

They run with fewer images and one epoch, so nothing is said about how good the models are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from nbclient import NotebookClient

from documents.notebooks import notebook_of

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
# what makes them quick: fewer images, one epoch, small images. Pairs have no epochs
QUICK = {"--n 240": "--n 48", "--n 120": "--n 30", "--n 40": "--n 16"}
QUICK_FIT = "--recipe drawn --set epochs=1 --set side=64"


def quick(source: str, task: str) -> str:
    changes = QUICK if task == "persistent_conditions" else QUICK | {"--recipe drawn": QUICK_FIT}
    for long, short in changes.items():
        source = source.replace(long, short)
    return source


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_its_first_cell_to_its_last(page, tmp_path):
    folders = {"DERM_DATA": "data", "DERM_OUT": "out", "DERM_HOME": "home", "IPYTHONDIR": "ipython"}
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    notebook = notebook_of(page)
    for cell in notebook.cells:
        cell.source = quick(cell.source, page.stem)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute(env=environment)
    assert any(cell.get("outputs") for cell in notebook.cells)
    (report,) = (tmp_path / "out" / page.stem).glob("*/evaluation_test/report.html")
    assert "synthetic" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_block_of_a_tutorial_is_a_cell_in_its_own_language(page):
    text, cells = page.read_text(encoding="utf-8"), notebook_of(page).cells
    shell = [cell for cell in cells if cell.source.startswith("%%bash -e\n")]
    python = [cell for cell in cells if cell.cell_type == "code" and not cell.source.startswith("%%")]
    assert (len(shell), len(python)) == (text.count("```bash\n"), text.count("```python\n"))
    assert not any(
        "](" in cell.source for cell in cells if cell.cell_type == "markdown"
    )  # no page lies beside a notebook


def test_every_task_has_a_tutorial():
    from derm_ml.registry import all_tasks

    assert {page.stem for page in PAGES} == set(all_tasks())
