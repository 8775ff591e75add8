"""`make demo` is the first thing a newcomer runs: if it breaks, nobody sees the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from derm_ml import RESEARCH_USE

pytestmark = pytest.mark.slow


def test_the_whole_line_through_dagster_to_an_answer_of_the_endpoint(tmp_path: Path):
    places = {"DERM_DATA": "data", "DERM_OUT": "out", "DERM_HOME": "home", "DAGSTER_HOME": "home/dagster"}
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("BENTOML_HOME", "MLFLOW_TRACKING_URI"))}
    environment |= {name: str(tmp_path / folder) for name, folder in places.items()}
    environment["DERM_SECRET"] = ""  # the installation makes its own
    (tmp_path / "home" / "dagster").mkdir(mode=0o700, parents=True)
    (tmp_path / "home").chmod(0o700)
    command = [sys.executable, "-m", "derm_assets.demo"]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, umask=0o022)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    answer = json.loads(first.stdout[first.stdout.index("{") : first.stdout.rindex("}") + 1])
    assert sum(answer["probabilities"].values()) > 0.999
    assert answer["research_use"] == RESEARCH_USE
    assert answer["dataset_md5"].endswith(".dir")
    for name in ("report.html", "heatmaps.png", "explained.png"):
        assert list((tmp_path / "out").rglob(name)), f"{name} was promised and is not there"

    for folder in ("data", "out", "home"):
        shared = [p for p in (tmp_path / folder, *(tmp_path / folder).rglob("*")) if others_may_read(p)]
        assert not shared, f"{len(shared)} of what the platform wrote can be read by everybody: {shared[:5]}"

    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert "→ champion" not in again.stdout, "nothing changed, so nothing was to be promoted again"


def others_may_read(path: Path) -> bool:
    """Whether anybody but the owner has a right to a file or folder; a link has no rights of its own.

    The entrypoint of a Bento is BentoML's own template: it says nothing of anybody.
    """
    return not path.is_symlink() and path.name != "entrypoint.sh" and bool(path.stat().st_mode & 0o077)
