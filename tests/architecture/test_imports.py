"""Who may import whom. A break here ties two parts together that a user replaces apart, or slows every start."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("derm_ml", "derm_assets", "serving")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# what is known in exactly one place: module → the files (or folders, with a slash) that may name it
ONLY_IN = {
    "dagster": ("derm_assets/",),
    "dagster_pipes": ("derm_assets/",),
    "mlflow": ("derm_assets/resources/model_registry.py", "derm_assets/resources/mlflow_client.py"),
    "dvc": ("derm_assets/resources/data_store.py",),
    "bentoml": ("serving/", "derm_assets/packaging.py"),
    "albumentations": ("derm_ml/images/augment.py",),
    "dlib": ("derm_ml/pairs/faces/dlib_faces.py",),
    "derm_assets": ("derm_assets/",),
    "serving": ("serving/", "derm_assets/packaging.py", "derm_assets/demo.py"),
}
NEVER_IN_SERVING = ("torch", "torchvision", "lightning_fabric", "dagster", "mlflow", "dvc", "derm_assets")

# inside derm_ml a part may import those of its own rank and below
RANKS = (
    ("addresses", "asking", "bundle", "comparison", "comparison_measures", "contract", "data_checks", "dataset",
     "deliveries", "embeddings", "escape", "evaluation", "evaluation_classification", "evaluation_segmentation",
     "explain", "faces", "fetch", "figures", "files", "images", "incoming", "learned_ids", "losses", "machine",
     "matching", "metrics", "nets", "neutral_ids", "onnx_file", "pairs", "places", "policy", "predictor", "prepare",
     "progress", "promotion", "records", "registration", "replay", "report", "rules", "sentences", "signing",
     "sources", "splits", "staging", "synthetic", "tables", "task", "training", "withdrawal"),
    ("tasks",),
    ("registry",),
    ("cli",),
)  # fmt: skip
# the contract and the records know nothing of how they are used
FOUNDATION = (
    "addresses", "escape", "tables", "files", "machine", "sentences", "records", "splits", "progress", "task",
    "bundle",
)  # fmt: skip
ABOVE_FOUNDATION = (
    "training", "nets", "losses", "metrics", "explain", "embeddings", "sources", "synthetic", "faces", "registration",
    "matching", "tasks", "registry", "cli",
)  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Dotted modules a file imports: at import time, and with `everywhere` inside functions and for types too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if everywhere else _at_import_time(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def _at_import_time(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements that run at import: not function bodies, not `if TYPE_CHECKING`."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found.append(node)
        for part in ("body", "orelse", "finalbody"):
            found += _at_import_time([n for n in getattr(node, part, []) if isinstance(n, ast.stmt)])
    return found


def uses(path: Path, module: str, everywhere: bool = True) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in imports(path, everywhere))


@pytest.mark.parametrize("module", ONLY_IN)
def test_each_framework_is_known_in_one_place(module):
    """Otherwise replacing one of them means changing the whole project."""
    allowed = ONLY_IN[module]
    wrong = [name_of(p) for p in FILES if uses(p, module) and not name_of(p).startswith(allowed)]
    assert not wrong, f"{module} is imported in {wrong}; it belongs in {allowed}"


@pytest.mark.parametrize("module", NEVER_IN_SERVING)
def test_serving_needs_no_training_code(module):
    """Otherwise the service image grows by gigabytes, and an upload reaches code that was never meant for it."""
    assert not [name_of(p) for p in FILES if name_of(p).startswith("serving/") and uses(p, module)]


def test_torch_is_not_imported_when_the_code_location_loads():
    """Otherwise every Dagster start waits seconds for it."""
    assert not [name_of(p) for p in FILES if name_of(p).startswith("derm_assets/") and uses(p, "torch", False)]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "derm_ml").parts[0].removesuffix(".py")


def test_imports_inside_the_library_point_downwards():
    """Otherwise a task cannot be read, tested or removed without the others."""
    rank = {part: level for level, parts in enumerate(RANKS) for part in parts}
    wrong = []
    for path in (p for p in FILES if name_of(p).startswith("derm_ml/") and p.name != "__init__.py"):
        for module in imports(path):
            pieces = module.split(".")
            known = len(pieces) > 1 and pieces[0] == "derm_ml" and pieces[1] in rank
            if known and rank[pieces[1]] > rank[part_of(path)]:
                wrong.append(f"{name_of(path)} imports {module}")
    # registry imports the package `tasks` itself, to list its folders
    assert not wrong


def test_every_part_of_the_library_has_a_rank():
    """Otherwise a new module escapes the rule above."""
    parts = {part_of(p) for p in FILES if name_of(p).startswith("derm_ml/")} - {"__init__"}
    assert parts <= {part for level in RANKS for part in level}


def test_the_contract_knows_nothing_of_its_users():
    """Otherwise importing a task's name pulls in its training."""
    wrong = [
        f"{name_of(p)} imports {module}"
        for p in FILES
        if name_of(p).startswith("derm_ml/") and p.parent.name == "derm_ml" and part_of(p) in FOUNDATION
        for module in imports(p)
        if module.startswith(tuple(f"derm_ml.{part}" for part in ABOVE_FOUNDATION))
    ]
    assert not wrong


def test_tasks_never_import_each_other():
    """Otherwise deleting one task breaks another."""
    wrong = []
    for path in (p for p in FILES if name_of(p).startswith("derm_ml/tasks/")):
        own = path.relative_to(ROOT / "derm_ml" / "tasks").parts[0]
        others = [m for m in imports(path) if m.startswith("derm_ml.tasks.") and m.split(".")[2] != own]
        wrong += [f"{name_of(path)} imports {module}" for module in others]
    assert not wrong


def test_the_code_location_loads_without_the_heavy_packages():
    """Otherwise every run, every step and every reload of the UI pays seconds and hundreds of megabytes."""
    script = (
        "import sys; from derm_assets.definitions import defs; defs();"
        "heavy = {'torch', 'torchvision', 'mlflow', 'bentoml', 'dvc', 'sklearn', 'matplotlib', 'onnxruntime', 'cv2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
