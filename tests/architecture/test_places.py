"""Who may say where things lie: places.py and model_folder.py alone. A second one sends two users to two folders."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from derm_ml.places import DEFAULTS, PATHS, VARIABLES

ROOT = Path(__file__).parents[2]
FILES = sorted(
    p for package in ("derm_ml", "derm_assets", "serving", "benchmarks") for p in (ROOT / package).rglob("*.py")
)
OWNERS = ("derm_ml/places.py", "derm_ml/model_folder.py")
# each names one setting of its own, which it reads with `setting_path`
OWN_SETTING = {
    "DERM_SIGNING_KEY": "derm_ml/bundles/signing.py",
    "DERM_TRUSTED_KEYS": "derm_ml/bundles/signing.py",
    "DERM_TOKENS_FILE": "serving/tokens.py",
    "DERM_RUN": "serving/launch.py",
}
# what lies below the three folders, and in a model folder
BELOW = {
    "incoming", "raw", "prepared", "versions", "withdrawn", "weights", "again", "comparison", "predicted", "explained",
    "ledger", "serving", "mlflow", "fetched", "dvc-site", "dagster", "bentoml", "answered", ".env",
}  # fmt: skip
MODEL = {
    "bundle", "history.json", "checkpoint.safetensors", "mlflow_run", "codes.parquet", "embeddings.parquet",
    "pseudo_labels", "similar_images", "predictions",
}  # fmt: skip
# (file, name) → why it is no place of the installation
ALLOWED = {
    ("derm_ml/data/incoming.py", "raw"): "the raw folder as it would be with a delivery, in a workspace",
}


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text of a file that is no docstring; the fixed parts of f-strings too."""
    said = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def joined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What a path is joined with or made of: `folder / "raw"`, `Path("data")`, `folder / f"evaluation_{split}"`."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("Path", "joinpath"):
            parts = list(node.args)
        for part in parts:
            first = part.values[0] if isinstance(part, ast.JoinedStr) and part.values else part
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield part.lineno, first.value


def offences(name: str, tree: ast.Module) -> list[str]:
    """Where a file that is no owner says where something lies."""
    found = [
        f"{name}:{line} names {variable}: ask derm_ml/places.py"
        for line, text in literals(tree)
        for variable in PATHS
        if re.search(rf"\b{variable}\b", text) and OWN_SETTING.get(variable) != name
    ]
    for line, text in joined(tree):
        if name.startswith("benchmarks/") and not MODEL & {*text.split("/")}:
            continue  # it works in a folder of its own
        names = {*text.split("/")} & {*DEFAULTS.values(), *BELOW, *MODEL}
        if any((name, one) not in ALLOWED for one in names) or text.startswith("evaluation_"):
            found.append(f"{name}:{line} joins '{text}': ask derm_ml/places.py or ModelFolder")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("Path.cwd", "os.getcwd"):
            found.append(f"{name}:{node.lineno} asks for the working directory")
        if isinstance(node, ast.Import | ast.ImportFrom) and "dotenv" in ast.unparse(node):
            found.append(f"{name}:{node.lineno} reads a file of settings")
    return found


def test_one_module_knows_where_things_lie():
    wrong = [
        said
        for path in FILES
        if (name := path.relative_to(ROOT).as_posix()) not in OWNERS
        for said in offences(name, ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "line",
    [
        'Path(os.environ.get("DERM_DATA", "data")) / task',
        'os.getenv("DERM_HOME")',
        'message = f"{x} is gone: look into DERM_OUT"',
        'root / "raw" / task.name',
        'Path("out/explained")',
        'model.parent / "history.json"',
        'bundle.parent / f"evaluation_{split}"',
        'root.joinpath("prepared", task)',
        "here = Path.cwd()",
        "from dotenv import load_dotenv",
    ],
)
def test_a_second_owner_is_found(line):
    assert offences("derm_ml/cli/data.py", ast.parse(line))


def test_the_makefile_sets_no_place_but_the_demo_s():
    """A variable that make exports would win over .env."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    demo = slice(lines.index("ifneq ($(DEMO)$(filter demo,$(MAKECMDGOALS)),)"), lines.index("endif"))
    set_there = [line for line in lines if line.startswith("export") and any(name in line for name in PATHS)]
    assert set_there == [line for line in lines[demo] if line.startswith("export")]
    assert len(set_there) == len(VARIABLES)
