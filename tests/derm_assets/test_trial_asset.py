"""A person names the challenger in Dagster; the file a running service follows says so, and that it has ended."""

from __future__ import annotations

import dagster as dg
import pytest

from derm_ml.model_folder import ModelFolder
from derm_ml.registry import get_task
from serving.released import NotReleased, read_challenger, write_challenger

pytestmark = pytest.mark.slow

NAME = "lesion_classification"


def materialised(definitions, instance, **config) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[dg.AssetKey([NAME, "trial"])],
        run_config={"ops": {f"{NAME}__trial": {"config": config}}},
    )


def test_the_challenger_is_named_and_the_trial_ends(definitions, instance, model, promotions, monkeypatch):
    built = []

    def build(task, bundle, version):  # building a Bento has its own tests
        built.append((bundle, version))
        return f"{task}:made-of-{version}"

    monkeypatch.setattr("derm_assets.packaging.build_bento", build)
    without = materialised(definitions, instance)
    assert not without.success
    assert "has no challenger: materialise" in str(without.get_step_failure_events()[0].step_failure_data.error)
    task = get_task(NAME)
    bundle = model("good")
    version = promotions.register(task, bundle, ModelFolder.holding(bundle).evaluation("test"))
    assert materialised(definitions, instance).success
    assert built == [(promotions.registry.read(task, version.number).bundle, str(version.number))]
    assert read_challenger(NAME) == f"{NAME}:made-of-{version.number}"
    shown = instance.get_latest_materialization_event(dg.AssetKey([NAME, "trial"])).asset_materialization.metadata
    assert (shown["asked"].value, shown["version"].value) == (True, version.number)
    assert materialised(definitions, instance, end=True).success
    assert read_challenger(NAME) == ""


@pytest.mark.parametrize("content", ["{", '{"bento": 3}', '{"bento": "other_task:1"}', "[]"])
def test_a_spoilt_file_names_nobody_and_says_what_to_do(places, content):
    path = write_challenger(NAME, f"{NAME}:one")
    path.write_text(content)
    with pytest.raises(NotReleased, match="begin the trial again"):
        read_challenger(NAME)
