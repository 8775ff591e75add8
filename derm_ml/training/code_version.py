"""Which code trained a model."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_ROOMS = ("images", "data", "losses", "nets", "training", "pairs")  # what decides the weights a recipe ends with
_OF_TASK = ("data.py", "model.py", "recipes.py", "train.py")


@cache
def training_code(task: str) -> str:
    """12 hex digits that change with the code that decides a task's weights: `derm_ml` below the rooms of training, and
    how the task reads, builds and trains. Evaluation, promotion, serving and pages are none of it."""
    root = Path(__file__).parents[1]
    files = [path for room in _ROOMS for path in (root / room).rglob("*.py")]
    files += [path for name in _OF_TASK if (path := root / "tasks" / task / name).exists()]
    digest = hashlib.sha256()
    for path in sorted([*files, root / "recipe.py"]):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
