"""The tutorials, run block by block in a shell as a reader does: a command that changed would stop them at that line.

They run with fewer images and one epoch, so nothing is said about how good the models are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# what makes them quick: fewer images, one epoch, small images. Pairs have no epochs
QUICK = {
    "source .venv/bin/activate\n": "",
    "--n 240": "--n 48",
    "--n 120": "--n 30",
    "--n 40": "--n 16",
}
QUICK_FIT = "--recipe drawn --set epochs=1 --set side=64"


def script_of(page: Path) -> str:
    """All blocks as one shell script; the Python between them runs where it stands."""
    parts = ["set -euo pipefail"]
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        parts.append(text if kind == "sh" else f"python <<'PYTHON'\n{text}PYTHON")
    script = "\n".join(parts)
    for long, quick in QUICK.items():
        script = script.replace(long, quick)
    return script if page.stem == "persistent_conditions" else script.replace("--recipe drawn", QUICK_FIT)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_its_first_block_to_its_last(page, tmp_path):
    folders = {"DERM_DATA": "data", "DERM_OUT": "out", "DERM_HOME": "home"}
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script_of(page)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (report,) = (tmp_path / "out" / page.stem).glob("*/evaluation_test/report.html")
    assert "synthetic" in report.read_text(encoding="utf-8")


def test_every_task_has_a_tutorial():
    from derm_ml.registry import all_tasks

    assert {page.stem for page in PAGES} == set(all_tasks())
