"""The records of a service are looked at by Dagster itself, every day, and what has changed is shown and told."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from derm_assets.assets import NO_DRIFT
from derm_assets.notices import notices_of
from derm_ml.answered.journal import CHALLENGER, Answered, Journal
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("malignancy_screening")
DRIFT = dg.AssetKey([TASK.name, "drift"])


def answered(folder: Path, days_ago: float, n: int, middle: float, seed: int, role: str = "served") -> None:
    """`n` answers of one day, as a service leaves them; the scores lie around `middle`."""
    rng, journal = np.random.default_rng(seed), Journal(folder / TASK.name, days=0)
    at = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="milliseconds")
    for number in range(n):
        score = float(np.clip(rng.normal(middle, 0.1), 0, 1))
        name = f"{seed:08x}{number:024x}"
        version = "0123456789ab" if role == "served" else "ba9876543210"
        record = Answered(name, TASK.name, version, "0" * 32 + ".dir", f"{TASK.name}:one", (name * 2,),
                          {"malignant": score}, embedding=rng.normal(size=4), role=role, at=at)  # fmt: skip
        journal.append(record)
    journal.close()


@pytest.fixture(scope="module")
def operator(tmp_path_factory) -> tuple[dict[str, str], dict]:
    folder = tmp_path_factory.mktemp("answered")
    answered(folder, 30, 80, 0.2, 1)
    answered(folder, 2, 80, 0.6, 2)
    answered(folder, 1, 90, 0.01, 3, CHALLENGER)  # nobody was told these
    return {"DERM_RECORDS": str(folder)}, {"automation": {TASK.name: {"look_every": 1}}}


def test_a_shift_in_what_is_asked_is_found_by_the_daemon_and_told(installation):
    """Nobody types `derm drift` every morning; a camera that was exchanged shows the next day."""
    command = [sys.executable, "-m", "derm_assets.automate", TASK.name]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    instance, deadline = installation.instance, time.monotonic() + 300
    while instance.get_latest_materialization_event(DRIFT) is None:
        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert not failed
        assert time.monotonic() < deadline
        time.sleep(0.3)
    shown = installation.metadata(TASK.name, "drift")
    assert shown["drifted"].value is True
    assert shown["model_version"].value == "0123456789ab"
    assert shown["shift.score.malignant"].value > 0.9
    assert shown["shifts"].value.startswith("![](data:image/png;base64,")
    assert "does not see" in shown["blind_spot"].value
    assert 0.5 < shown["expected_auc.malignant"].value < 1
    run = instance.get_run_by_id(instance.get_latest_materialization_event(DRIFT).run_id)
    installation.succeed(run.run_id)
    assert run.tags["derm/started_by"] == "automation"
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(DRIFT, NO_DRIFT)])
    (found,) = record.values()
    evaluation = found.event.dagster_event.asset_check_evaluation_data
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    (notice,) = notices_of(instance, run)
    assert notice.kind == "drift"
    assert "score.malignant shifted by 0.1 or more" in notice.text
    time.sleep(5)  # of the same day it is looked at once
    assert len(instance.fetch_materializations(DRIFT, limit=10).records) == 1
