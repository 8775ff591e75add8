"""The page of the Python API: signatures and docstrings of the modules that scripts use, read without running them."""

from __future__ import annotations

import ast

from derm_ml.places import PROJECT
from documents.markdown import MADE, block, page
from documents.reference import docstring

# what the scripts in examples/ and the notes in docs/ use, in the order of a pipeline
MODULES = (
    "derm_ml.registry",
    "derm_ml.task",
    "derm_ml.recipe",
    "derm_ml.data.prepare",
    "derm_ml.data.dataset",
    "derm_ml.model_folder",
    "derm_ml.bundles.bundle",
    "derm_ml.bundles.classifier",
    "derm_ml.bundles.segmenter",
    "derm_ml.images.decode",
    "derm_ml.predictions.classifier",
    "derm_ml.evaluation.record",
    "derm_ml.evaluation.comparison",
    "derm_ml.metrics.metric",
    "derm_ml.metrics.glossary",
    "derm_ml.metrics.intervals",
    "derm_ml.metrics.prevalence",
    "derm_ml.metrics.conformal",
    "derm_ml.promotion.policy",
    "derm_ml.promotion.report",
    "derm_ml.contract",
)


def python() -> str:
    """Every public class and function of these modules that has a docstring."""
    examples = sorted((PROJECT / "examples").glob("*.py"))
    parts = [
        MADE,
        "`derm_ml` is a plain library: it knows neither Dagster nor MLflow, DVC or BentoML. Errors that a user can act "
        "on are `DermError`, with one sentence.",
        "## Three scripts",
    ]
    for path in examples:
        parts += [f"### examples/{path.name}", block(path.read_text(encoding="utf-8"), "python")]
    for module in MODULES:
        tree = ast.parse((PROJECT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        parts += [f"## {module}", docstring(ast.get_docstring(tree))]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and _is_shown(node):
                parts += _shown(node, module)
    return page("Python API", *parts)


def _is_shown(node: ast.AST) -> bool:
    is_named = isinstance(node, ast.FunctionDef | ast.ClassDef)
    return is_named and not node.name.startswith("_") and ast.get_docstring(node) is not None


def _shown(node: ast.FunctionDef | ast.ClassDef, module: str) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [f"### {node.name}", block(_signature(node), "python"), docstring(ast.get_docstring(node))]
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    parts = [
        f"### class {node.name}",
        block(f"class {node.name}({bases})" if bases else f"class {node.name}", "python"),
    ]
    parts.append(docstring(ast.get_docstring(node)))
    members = [block(_attributes(node), "python")] if _attributes(node) else []
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and _is_shown(inner):
            is_property = any(ast.unparse(mark) == "property" for mark in inner.decorator_list)
            said = _signature(inner) if not is_property else f"{inner.name}{_returns(inner)}"
            members += [block(said, "python"), docstring(ast.get_docstring(inner))]
    return parts + members


def _signature(node: ast.FunctionDef) -> str:
    start = f"{node.name}({ast.unparse(node.args)}){_returns(node)}"
    if len(start) <= 100:
        return start
    arguments = ast.unparse(node.args)
    return f"{node.name}(\n    {_broken(arguments)}\n){_returns(node)}"


def _broken(arguments: str) -> str:
    """One argument a line: at the commas that stand in no bracket."""
    lines, depth, line = [], 0, ""
    for sign in arguments:
        depth += (sign in "([{") - (sign in ")]}")
        line += sign
        if sign == "," and depth == 0:
            lines.append(line.strip())
            line = ""
    return "\n    ".join([*lines, line.strip()])


def _returns(node: ast.FunctionDef) -> str:
    return f" -> {ast.unparse(node.returns)}" if node.returns else ""


def _attributes(node: ast.ClassDef) -> str:
    """The declared fields of a dataclass or a model, without their descriptions."""
    fields = [inner for inner in node.body if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)]
    public = [inner for inner in fields if not ast.unparse(inner.target).startswith("_")]
    return "\n".join(f"{ast.unparse(inner.target)}: {ast.unparse(inner.annotation)}" for inner in public)
