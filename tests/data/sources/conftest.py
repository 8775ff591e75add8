"""Tiny layouts on disk. Source readers look at names and lists only, so a few bytes stand for a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


@pytest.fixture
def lay(tmp_path) -> Callable[[Mapping[str, str | bytes]], Path]:
    """`lay({"labels.csv": "…", "a.jpg": ""})` writes the files below a folder `raw` and returns it."""

    def write(files: Mapping[str, str | bytes]) -> Path:
        root = tmp_path / "raw"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write
