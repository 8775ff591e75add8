"""The tutorials as Jupyter notebooks: a block of a page is a cell, a shell's a `%%bash` cell that stops at an error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_HEADER = (
    "---\njupyter:\n  kernelspec: " + json.dumps(KERNEL) + "\n---\n\n"
)  # without it the first block's language is taken
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")  # to another page, which a notebook does not have beside it


def notebook_of(page: Path) -> NotebookNode:
    """A page of Markdown as a notebook without outputs; the same page always gives the same bytes."""
    notebook = jupytext.reads(_HEADER + _LINK.sub(r"\1", page.read_text(encoding="utf-8")), fmt="md")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.source = re.sub(r"\A%%bash$", "%%bash -e", cell.source, flags=re.MULTILINE)
    notebook.metadata = {"kernelspec": KERNEL}
    nbformat.validate(notebook)
    return notebook


def add_notebooks(tutorials: Path) -> None:
    """Beside each page of a folder its notebook, and a link to it below the page's first paragraph."""
    for page in sorted(tutorials.glob("*.md")):
        nbformat.write(notebook_of(page), page.with_suffix(".ipynb"))
        title, opening, rest = page.read_text(encoding="utf-8").split("\n\n", 2)
        link = f"{{download}}`The same as a notebook <{page.stem}.ipynb>`, for Jupyter (`pip install jupyterlab`)."
        page.write_text("\n\n".join([title, opening, link, rest]), encoding="utf-8")
