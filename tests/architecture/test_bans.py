"""What no file may do. Each ban closes a way in which a user's machine or a user's result was lost elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    p for package in ("derm_ml", "derm_assets", "serving", "benchmarks") for p in (ROOT / package).rglob("*.py")
)
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
BANNED_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
BANNED_CALLS = ("torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "pd.read_pickle",
                "os.system", "eval", "exec")  # fmt: skip
BANNED_NAMES = {"utils", "helpers", "helper", "manager", "common", "misc"}


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield f"{name}:{getattr(node, 'lineno', 0)}", node


def test_nothing_is_pickled():
    """A pickle from a registry or an upload runs whatever code its maker liked."""
    wrong = [
        place
        for place, node in (*nodes(ast.Import), *nodes(ast.ImportFrom))
        for module in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if module.split(".")[0] in BANNED_MODULES
    ]
    assert not wrong


# the one archive of tensors that is read, of a file whose hash is pinned, and of it only tensors
TENSORS_OF_A_PINNED_FILE = ("derm_ml/nets/pretrained.py", "torch.load(path, map_location='cpu', weights_only=True)")


@pytest.mark.parametrize("banned", BANNED_CALLS)
def test_no_call_that_runs_data_as_code(banned):
    found = [
        (place.split(":")[0], ast.unparse(node)) for place, node in nodes(ast.Call) if ast.unparse(node.func) == banned
    ]
    assert [call for call in found if call != TENSORS_OF_A_PINNED_FILE] == []


def test_no_command_goes_through_a_shell():
    """A file name with a semicolon would become a command."""
    wrong = [
        place
        for place, node in nodes(ast.Call)
        if any(
            k.arg == "shell" and not (isinstance(k.value, ast.Constant) and not k.value.value) for k in node.keywords
        )
    ]
    assert not wrong


def test_numpy_loads_no_objects():
    wrong = [
        place
        for place, node in nodes(ast.Call)
        if any(
            k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
            for k in node.keywords
        )
    ]
    assert not wrong


READS_AN_IMAGE_A_ROW = {
    "derm_ml/training/segmentation.py", "derm_ml/training/pseudo_labels.py", "derm_ml/asking/replay.py",
    "derm_assets/data_steps.py",
}  # fmt: skip


def test_tables_are_read_by_columns():
    """A table of 100,000 rows took a minute a pass, row by row."""
    found = {place.split(":")[0] for place, node in nodes(ast.Attribute) if node.attr in ("iterrows", "itertuples")}
    found = {name for name in found if not name.startswith("benchmarks/")}
    assert found == READS_AN_IMAGE_A_ROW


def test_serving_loads_no_model_through_mlflow():
    """Its loaders unpickle by default."""
    wrong = [
        place for place, node in nodes(ast.Attribute) if place.startswith("serving/") and node.attr == "load_model"
    ]
    assert not wrong


def test_no_error_is_swallowed_unseen():
    """A broad `except` turns a broken image, a full disk or a typo into a wrong number in a report."""
    wrong = []
    for place, node in nodes(ast.ExceptHandler):
        kinds = [] if node.type is None else node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = node.type is None or any(ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)
        raises_again = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        if broad and not raises_again:
            wrong.append(place)
    assert not wrong


def test_every_module_says_what_it_is():
    """A reader opens a file and learns in one sentence whether it is the one."""
    silent = [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    assert not silent


def test_no_file_is_called_utils():
    """Such a file is where things go that nobody finds again."""
    assert not [name for name in TREES if BANNED_NAMES & set(Path(name).with_suffix("").parts)]


WALKS = {"rglob", "glob", "iterdir", "walk", "scandir", "listdir", "readlink"}
# what reads folders somebody else filled
READERS = ("derm_ml/data/sources/", "derm_ml/cli/", "derm_ml/tasks/", "derm_ml/data/fetch.py", "derm_ml/embeddings/")


def test_folders_of_others_are_walked_in_one_place():
    """A reader that walks by itself follows links out of a delivery, waits for pipes, asks the disk again and again."""
    wrong = [
        place
        for place, node in nodes(ast.Attribute)
        if place.startswith(READERS) and isinstance(node, ast.Attribute) and node.attr in WALKS
    ]
    assert not wrong
