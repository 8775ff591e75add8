"""Whoever is asked to approve a challenger sees in Dagster how it stands beside the champion, as a page."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from derm_assets.resources.datasets import evaluation_of
from derm_ml.bundles.bundle import Bundle
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


def test_registration_and_promotion_link_to_the_comparison_with_the_champion(
    definitions, instance, places, promotions, model
):
    assert promotions.promote(TASK, model("weak")).promote
    bundle = Bundle.open(model("good"))
    for noun, path, version in (
        ("model", bundle.path, bundle.version), ("evaluation", evaluation_of(bundle.path), "measured")
    ):  # fmt: skip
        known = dg.AssetMaterialization(
            [TASK.name, noun], tags={"dagster/data_version": version},
            metadata={"path": dg.MetadataValue.path(path), "dataset_md5": bundle.card.dataset_md5},
        )  # fmt: skip
        instance.report_runless_asset_event(known)

    def materialised(noun: str) -> dict:
        key = dg.AssetKey([TASK.name, noun])
        job = definitions.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance, asset_selection=[key]).success
        event = instance.get_latest_materialization_event(key).asset_materialization
        return {name: value.value for name, value in event.metadata.items()}

    folder = places.here.beside_champion(TASK.name, bundle.version)
    link = f"/reports/{folder.relative_to(places.out).as_posix()}/comparison.html"
    assert materialised("registered_model")["comparison"] == link
    report = (evaluation_of(bundle.path) / "report.html").read_text()
    assert "higher than that of the champion (version 1)" in report  # the report itself, not a page it leads to
    page = (Path(folder) / "comparison.html").read_text()
    assert "candidate: the mean AUC is 0." in page
    assert "higher than that of champion" in page
    assert page.count('src="data:image/jpeg;base64,') > 1  # the dataset is here
    (folder / "comparison.html").unlink()
    assert materialised("promoted_model")["comparison"] == link  # of the one it has replaced, which it is not itself
    assert "higher than that of champion" in (Path(folder) / "comparison.html").read_text()
