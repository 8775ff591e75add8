"""The pages that are made when the site is built: path below docs/ → what writes it as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import version as installed
from pathlib import Path

from documents import api, commands, lessons, measures, reference, services

ROOT = Path(__file__).resolve().parents[1]


def version() -> str:
    return installed("derm-platform")


def from_root(name: str) -> str:
    """A page of the project's folder, its links as they are from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](", text)
    text = text.replace("](CHANGELOG.md)", "](changelog.md)").replace("](CONTRIBUTING.md)", "](contributing.md)")
    return re.sub(r"\[([^\]]*)\]\(LICENSE\)", r"\1", text)


PAGES: Mapping[str, Callable[[], str]] = {
    "contributing.md": lambda: from_root("CONTRIBUTING.md"),
    "changelog.md": lambda: from_root("CHANGELOG.md"),
    "lessons.md": lessons.lessons,
    "limitations.md": lessons.limitations,
    "glossary.md": measures.glossary,
    "reference/commands.md": commands.commands,
    "reference/params.md": reference.params,
    "reference/recipes.md": reference.recipes,
    "reference/policies.md": reference.policies,
    "reference/environment.md": reference.environment,
    "reference/checks.md": measures.checks,
    "reference/metrics.md": measures.metrics,
    "reference/http.md": services.http,
    "reference/python.md": api.python,
    "reference/formats.md": measures.files,
    "reference/datasets.md": measures.datasets,
}
