"""`make test-fast` trains nothing and starts no server: otherwise nobody runs it before a commit."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
# what trains or serves, whatever it is called on
SLOW_NAMES = {"Popen", "uvicorn", "fit_network", "fit_members", "fit_classifier", "fit_segmenter",
              "fit_pairs", "fit_autoencoder", "sync_playwright"}  # fmt: skip
TASKS = {"task", "TASK"}  # whose `fit` trains; scikit-learn's, the reference of some tests, takes no time


def trains_or_serves(node: ast.AST) -> bool:
    """Whether the code of a function names something of the kind."""
    for inner in ast.walk(node):
        name = inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""
        if name in SLOW_NAMES:
            return True
        if name == "fit" and isinstance(inner, ast.Attribute) and ast.unparse(inner.value) in TASKS:
            return True
    return False


def unmarked(tree: ast.Module) -> Iterator[str]:
    """The tests and fixtures of a module that train or serve, by themselves or through its functions, unmarked."""
    if any(isinstance(node, ast.Assign) and "mark.slow" in ast.unparse(node) for node in tree.body):
        return
    parts = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    named = {name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} for name, node in parts.items()}
    taken = {name: {a.arg for a in n.args.args} for name, n in parts.items() if isinstance(n, ast.FunctionDef)}
    slow = closure({name for name, node in parts.items() if trains_or_serves(node)}, named)
    marked = closure({"slow", "trained", "retinal_trained"}, taken)  # fixtures, and what takes them
    for name in sorted(slow & set(taken)):
        marks = " ".join(ast.unparse(mark) for mark in parts[name].decorator_list)
        is_run = name.startswith("test_") or "fixture" in marks
        if is_run and "mark.slow" not in marks and name not in marked:
            yield name


def closure(start: set[str], needs: dict[str, set[str]]) -> set[str]:
    """`start`, what needs one of these, what needs one of those, …"""
    found = start | {name for name, needed in needs.items() if needed & start}
    return found if found == start else closure(found, needs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_what_trains_or_serves_is_marked_slow(path):
    assert list(unmarked(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def test_a(tmp_path):\n    TASK.fit(data, recipe, tmp_path)", ["test_a"]),
        ("@pytest.fixture\ndef model(data):\n    return task.fit(data, recipe, out)", ["model"]),
        ("def start():\n    return subprocess.Popen([])\n\ndef test_b():\n    start()", ["test_b"]),
        ("def test_c():\n    LogisticRegression().fit(x, y)", []),
        ("@pytest.fixture\ndef model(slow):\n    return task.fit(data, recipe, out)", []),
        ("def test_e(trained):\n    task.fit(data, recipe, out)", []),
        ("pytestmark = pytest.mark.slow\n\ndef test_d():\n    task.fit(data, recipe, out)", []),
    ],
)
def test_a_test_that_forgot_its_mark_is_found(text, found):
    assert list(unmarked(ast.parse(text))) == found
