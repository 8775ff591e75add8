"""The data audit in Dagster: what a person sees before training, a check that warns, and nothing that is stopped."""

from __future__ import annotations

from pathlib import Path

import cv2
import dagster as dg
import numpy as np
import pytest

from derm_assets.assets import FEW_LOOKS
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


@pytest.fixture
def raw(places) -> Path:
    folder = places.raw(TASK) / "isic2017"
    TASK.draw(folder, 120, seed=7)
    return folder


def audited(definitions, instance) -> tuple[dict, dg.AssetCheckEvaluation]:
    """What Dagster shows of an audit, and its check, after a run that prepares the dataset and looks through it."""
    keys = [dg.AssetKey([TASK.name, noun]) for noun in ("dataset", "data_audit")]
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=keys)
    event = instance.get_latest_materialization_event(keys[1])
    check = next(e for e in result.get_asset_check_evaluations() if e.check_name == FEW_LOOKS)
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}, check


def test_a_clean_set_passes_and_its_page_opens_from_the_asset(definitions, instance, raw):
    shown, check = audited(definitions, instance)
    assert check.passed
    assert shown["report"] == f"/reports/{TASK.name}/data_audit/report.html"
    assert (Path(shown["path"]) / "report.html").is_file()
    assert (shown["images"], shown["flagged"]) == (120.0, 0.0)
    assert shown["auc_label"] > 0.85


def test_blank_images_are_shown_and_warned_of_and_stop_nothing(definitions, instance, raw):
    for path in sorted((raw / "ISIC-2017_Training_Data").glob("*.jpg"))[:6]:
        noise = np.random.default_rng(int(path.stem[-7:])).normal(200, 3, (144, 192, 3))  # else they were duplicates
        cv2.imwrite(str(path), noise.clip(0, 255).astype(np.uint8))
    shown, check = audited(definitions, instance)
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert not check.blocking
    assert "6 blank" in shown["verdict"]
    assert shown["blank"].startswith("![](data:image/png;base64,")
    assert {record.data["finding"] for record in shown["findings"].records} >= {"blank"}
