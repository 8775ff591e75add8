"""The verbs of every task folder against the protocols of derm_ml/contract.py.

A verb that is renamed, misspelt or takes other arguments would be found by the first user who calls it, hours into a
pipeline: an optional one that is misspelt would never be called at all.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from derm_ml.contract import PARTS
from derm_ml.registry import all_tasks

ROOT = Path(__file__).parents[2]
MODULES = [(task, part) for task in all_tasks() for part in PARTS]


def faults(part: str, module: ModuleType, used_elsewhere: frozenset[str] = frozenset()) -> list[str]:
    """What of a task's module contradicts the contract, one sentence each."""
    required, optional = PARTS[part]
    verbs = {**_verbs(required), **(_verbs(optional) if optional else {})}
    own = {n: f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__}
    found = [f"{part}.py has no {name}" for name in _verbs(required) if name not in own]
    for name, verb in own.items():
        if name in verbs:
            found += _differences(f"{part}.{name}", verbs[name], verb)
        elif not name.startswith("_") and name not in used_elsewhere:
            found.append(f"{part}.{name} is called by nobody: it is no verb of the contract")
    return found


def _verbs(protocol: type) -> dict[str, Callable]:
    return {n: f for n, f in vars(protocol).items() if inspect.isfunction(f) and not n.startswith("_")}


def _differences(name: str, wanted: Callable, given: Callable) -> list[str]:
    promised = list(inspect.signature(wanted).parameters.values())[1:]  # without self
    taken = list(inspect.signature(given).parameters.values())
    if len(promised) != len(taken):
        return [f"{name} takes {len(taken)} arguments, the contract gives {len(promised)}"]
    found = []
    for one, other in zip(promised, taken, strict=True):
        if one.kind is not one.POSITIONAL_ONLY and one.name != other.name:
            found.append(f"{name} calls an argument {other.name}, the contract {one.name}")
        if one.default is not one.empty and other.default is other.empty:
            found.append(f"{name} insists on {other.name}, the contract leaves it out")
    return found


def imported_from(module: str) -> frozenset[str]:
    """The names other modules of the project import from `module`."""
    return frozenset(name for source, name in imported() if source == module)


@cache
def imported() -> frozenset[tuple[str, str]]:
    """Every (module, name) that a module of the library imports."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "derm_ml").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return frozenset((node.module or "", alias.name) for node in nodes for alias in node.names)


@pytest.mark.parametrize(("task", "part"), MODULES, ids=lambda value: value)
def test_a_task_s_module_fulfils_the_contract(task, part):
    name = f"derm_ml.tasks.{task}.{part}"
    assert not faults(part, importlib.import_module(name), imported_from(name))


@pytest.mark.parametrize("task", all_tasks())
def test_a_type_checker_sees_the_modules_too(task):
    """Without this line in the task's `__init__.py` a wrong type of an argument stays unseen."""
    text = (ROOT / "derm_ml" / "tasks" / task / "__init__.py").read_text(encoding="utf-8")
    assert "Modules(data, train, evaluate, predict)" in text


@pytest.mark.parametrize(
    ("part", "old", "new", "fault"),
    [
        ("train", "def fit(", "def fit_all(", "train.py has no fit"),
        ("predict", "def explain(", "def explian(", "predict.explian is called by nobody"),
        ("predict", "def drawings(", "def drawnings(", "predict.drawnings is called by nobody"),
        ("evaluate", ", split: str", "", "evaluate.evaluate takes 3 arguments, the contract gives 4"),
        ("evaluate", "dataset: Dataset, split: str", "split: str, dataset: Dataset", "calls an argument split"),
        ("data", "seed: int = 0", "seed: int", "data.draw insists on seed"),
    ],
)
def test_a_module_that_breaks_the_contract_is_named(part, old, new, fault):
    """The suite itself: each of these went unseen when it only looked for files."""
    source = (ROOT / "derm_ml" / "tasks" / "lesion_segmentation" / f"{part}.py").read_text(encoding="utf-8")
    assert old in source
    module = ModuleType("mutated")
    exec(compile(source.replace(old, new), "mutated", "exec"), vars(module))
    assert any(fault in found for found in faults(part, module)), faults(part, module)
