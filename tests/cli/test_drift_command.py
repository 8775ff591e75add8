"""`derm drift` as an operator runs it, on the records a service left."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from derm_ml.answered.journal import Answered, Journal

pytestmark = pytest.mark.slow

TASK = "malignancy_screening"


def test_a_shift_ends_with_code_1_and_a_wrong_date_with_a_sentence(tmp_path):
    """A weekly job goes by the exit code."""
    rng, folder = np.random.default_rng(0), tmp_path / "answered"
    journal = Journal(folder / TASK, days=0)
    for number in range(160):
        month = 1 + number // 80
        score = float(np.clip(rng.normal(0.2 + 0.4 * (month == 2), 0.1), 0, 1))
        journal.append(
            Answered(
                f"{number:032x}", TASK, "0123456789ab", "0" * 32 + ".dir", f"{TASK}:one", (f"{number:064x}",),
                {"malignant": score}, embedding=rng.normal(size=4), at=f"2026-0{month}-10T10:00:00.000+00:00",
            )
        )  # fmt: skip

    def derm(*arguments: str) -> subprocess.CompletedProcess[str]:
        own = {"DERM_RECORDS": str(folder), "DERM_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        command = [sys.executable, "-m", "derm_ml.cli", "drift", *arguments]
        return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)

    shifted = derm(TASK, "--since", "2026-02-01")
    assert shifted.returncode == 1, shifted.stderr
    (row,) = [line for line in shifted.stdout.splitlines() if "score.malignant" in line]
    assert "shifted" in row
    assert "80" in row
    for arguments in ((TASK, "--since", "february"), ("retinal_findings", "--since", "2026-02-01")):
        wrong = derm(*arguments)
        assert wrong.returncode == 2
        assert "Traceback" not in wrong.stderr
