"""One meaning for each public name: what stands in two modules is the same thing seen from two doors, or is listed."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from derm_ml import contract

ROOT = Path(__file__).parents[2]
# the verb a user types, the asset of the same name, and what both call
VERBS = {"approve", "audit", "autoencode", "compare", "draw", "evaluate", "explain", "fit", "prepare", "promote",
         "reinstate", "relabel", "rollback", "sign", "withdraw"}  # fmt: skip
# what each of several modules of one kind must hold
PARTS = {
    "read": "the sources: one module a layout",
    "recognise": "the sources",
    "features": "the libraries of backbones",
    "knows": "the libraries of backbones",
    "names": "the libraries of backbones",
    "pyramid": "the libraries of backbones, and the door to them",
    "training_samples": "the kinds of networks that are trained",
    "save": "the pages that are written",
    "install": "what the service adds to its server",
    "main": "programs",
    "Distilled": "recipes of tasks",
    "Drawn": "recipes of tasks",
    "Faithful": "recipes of tasks",
    "Strong": "recipes of tasks",
    "StrongGpu": "recipes of tasks",
    "heatmaps": "artifacts of tasks",
    "probabilities_are_calibrated": "gates of tasks",
    "Guard": "in front of a server: of Dagster, of the service",
    "open_registry": "the library's door to what a registry gives it",
    "read_boxes": "boxes as a user sends them, and as annotation tools write them",
    "numbers": "the verb of a task, and numbers as Dagster shows them",
}


def defined() -> dict[str, set[str]]:
    found = defaultdict(set)
    for package in ("derm_ml", "derm_assets", "serving"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].add(path.relative_to(ROOT).as_posix())
    return found


def test_no_name_means_two_things():
    """A reader who greps for a name must not land in another subject."""
    of_tasks = {name for parts in contract.PARTS.values() for part in parts if part for name in vars(part)}
    known = VERBS | PARTS.keys() | of_tasks
    twice = {name: sorted(places) for name, places in defined().items() if len(places) > 1 and name not in known}
    assert twice == {}


def test_no_name_is_listed_that_stands_once():
    places = defined()
    assert [name for name in sorted(VERBS | PARTS.keys()) if len(places[name]) < 2] == []
