"""Who may import whom. A break here ties two parts together that a user replaces apart, or slows every start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("derm_ml", "derm_assets", "serving")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# what is known in exactly one place: module → the files (or folders, with a slash) that may name it
ONLY_IN = {
    "dagster": ("derm_assets/",),
    "dagster_pipes": ("derm_assets/",),
    "mlflow": tuple(
        f"derm_assets/resources/{name}.py"
        for name in (
            "model_registry",
            "mlflow_runs",
            "stored_files",
            "mlflow_connection",
            "mlflow_client",
            "ledger_anchor",
            "version_page",
        )
    ),
    "dvc": ("derm_assets/resources/data_store.py",),
    "bentoml": ("serving/", "derm_assets/packaging.py"),
    "albumentations": ("derm_ml/images/augment.py",),
    "onnxruntime": ("derm_ml/bundles/", "derm_ml/training/quantisation.py"),
    "dlib": ("derm_ml/pairs/faces/dlib_faces.py",),
    "derm_assets": ("derm_assets/",),
    "serving": ("serving/", "derm_assets/packaging.py", "derm_assets/demo.py"),
}
NEVER_IN_SERVING = ("torch", "torchvision", "lightning_fabric", "dagster", "mlflow", "dvc", "derm_assets")

# inside derm_ml an import goes strictly down: a floor imports those named before it, and its own modules
FLOORS = (
    "addresses", "escape", "sentences", "recipe", "formats", "machine", "ranks", "progress", "places",
    "model_folder", "records", "files", "shared", "synthetic_mark", "cache", "provenance", "entrance", "tree",
    "tables", "neutral_ids", "answered", "images", "asking", "task", "contract", "metrics", "bundles", "data",
    "predictions", "synthetic", "nets", "losses", "pages", "figures", "explain", "embeddings", "audit",
    "training", "evaluation", "pairs", "cards", "promotion", "trace", "drift", "tasks", "registry", "jobs",
    "cli",
)  # fmt: skip
# what a task is, said in types of what is above: nothing above is imported when it runs
NAMES_TYPES_ABOVE = {"asking", "task", "contract"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
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


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Every module of derm_ml a file imports, anywhere in it, and whether for types only."""
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, id(node) in for_types) for a in node.names if a.name.startswith("derm_ml."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "derm_ml":
            assert node.level == 0, "relative imports hide who is imported"
            yield from ((f"{node.module}.{a.name}", id(node) in for_types) for a in node.names)


def upward(part: str, tree: ast.Module) -> list[str]:
    """The imports of a file of that floor which do not go down."""
    floor = {name: height for height, name in enumerate(FLOORS)}
    return [
        module
        for module, for_types in imported(tree)
        if (other := module.split(".")[1]) in floor
        and floor[other] > floor[part]
        and not (for_types and part in NAMES_TYPES_ABOVE)
    ]


def library() -> dict[str, Path]:
    """Every module of derm_ml by its dotted name."""
    paths = [p for p in FILES if name_of(p).startswith("derm_ml/")]
    return {name_of(p).removesuffix(".py").removesuffix("/__init__").replace("/", "."): p for p in paths}


def test_imports_inside_the_library_go_strictly_down():
    """Otherwise no part can be read, tested or replaced without those above it."""
    wrong = [
        f"{name_of(path)} imports {module}"
        for name, path in library().items()
        if name != "derm_ml"
        for module in upward(part_of(path), ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("records", "from derm_ml.promotion import ledger"),
        ("metrics", "from derm_ml.evaluation.record import Evaluation"),
        ("metrics", "import derm_ml.bundles.session"),
        ("bundles", "def f():\n    from derm_ml.training import loop"),
        ("images", "if TYPE_CHECKING:\n    from derm_ml.bundles.bundle import BundleCard"),
        ("task", "from derm_ml.bundles.bundle import BundleCard"),
        ("embeddings", "from derm_ml.training.settings import Views"),
        ("training", "from derm_ml.pairs.training import fit_pairs"),
        ("figures", "from derm_ml.evaluation.comparison import Row"),
        ("tasks", "from derm_ml import registry"),
    ],
)
def test_an_import_that_goes_up_is_found(part, line):
    assert upward(part, ast.parse(line))


def test_every_part_of_the_library_has_its_floor():
    """Otherwise a new module escapes the rule above."""
    assert {part_of(p) for p in FILES if name_of(p).startswith("derm_ml/")} - {"__init__"} == set(FLOORS)


def test_no_module_imports_itself_through_others():
    """A circle can only be understood as a whole. Counted are all imports, those inside functions too."""
    known = library()

    def module_of(name: str) -> str:
        while name not in known:
            name = name.rpartition(".")[0]
        return name

    needs = {
        name: {
            found
            for module, for_types in imported(ast.parse(path.read_text(encoding="utf-8")))
            if not (for_types and (path.name == "contract.py" or part_of(path) in NAMES_TYPES_ABOVE))
            and (found := module_of(module)) not in (name, "derm_ml")
        }
        for name, path in known.items()
    }
    assert list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle


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


def test_what_answers_loads_without_what_only_training_has():
    """The image of a service holds none of it: an import of a table or a statistic would end it at its start."""
    tasks = sorted(p.name for p in (ROOT / "derm_ml" / "tasks").iterdir() if (p / "predict.py").exists())
    script = (
        "import importlib, sys, serving.engine, serving.endpoints;"
        f"[importlib.import_module(f'derm_ml.tasks.{{name}}.predict') for name in {tasks}];"
        "print(sorted({'torch', 'torchvision', 'pandas', 'pyarrow', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )  # SciPy is what the service of persistent_conditions asks for
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
