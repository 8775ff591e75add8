"""The scripts in examples/, run as a reader runs them, one after the other in one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)],
        cwd=arguments[0],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_examples_train_ask_and_read(tmp_path):
    trained = run("train", tmp_path)
    model, photo = tmp_path / "model", next((tmp_path / "raw").rglob("*.jpg"))
    assert "auc_mean" in trained.splitlines()[-2]
    assert Path(trained.splitlines()[-1]).is_file()
    assert '"predicted"' in run("predict", model / "bundle", photo, tmp_path / "explained.png")
    assert (tmp_path / "explained.png").is_file()
    assert "auc_mean" in run("read_evaluation", model / "evaluation_test")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_at_a_glance(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    assert f"examples/{path.name}" in (ROOT / "README.md").read_text(encoding="utf-8")
