"""All Dagster definitions, written down. A renamed asset, check or job loses its history: here it shows in review.

`python -m pytest tests/snapshots --snapshot-update` accepts a change.
"""

from __future__ import annotations

import dagster as dg
import pytest

from derm_assets.definitions import defs


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


def test_definitions_are_as_written_down(definitions, snapshot):
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    written = {
        "assets": {
            key.to_user_string(): {
                "group": graph.get(key).group_name,
                "kinds": sorted(graph.get(key).kinds),
                "after": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
                "pools": sorted(graph.get(key).pools or ()),
                "tags": {k: v for k, v in graph.get(key).tags.items() if not k.startswith("dagster/")},
                "partitioned": graph.get(key).partitions_def is not None,
            }
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": {
            f"{check.asset_key.to_user_string()}: {check.name}": "blocking" if graph.get(check).blocking else "warns"
            for check in sorted(graph.asset_check_keys)
        },
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in sorted(jobs, key=lambda job: job.name)
        },
        "schedules": {s.name: [s.cron_schedule, s.default_status.value] for s in repository.schedule_defs},
        "sensors": {s.name: s.default_status.value for s in repository.sensor_defs},
        "resources": sorted(definitions.resources or {}),
    }
    assert written == snapshot


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("group:lesion_classification and kind:bentoml", {"bento"}),
        ('key:"lesion_classification/registered_model"+1', {"registered_model", "promoted_model", "trial"}),
        ('+key:"lesion_classification/dataset"', {"incoming_batch", "dataset"}),
    ],
)  # fmt: skip
def test_a_typed_selection_finds_its_assets(definitions, selection, expected):
    """With the wrong antlr every typed selection dies (dagster#27487): nobody could launch anything by name."""
    parsed = dg.AssetSelection.from_string(selection)
    found = parsed.resolve(definitions.resolve_asset_graph())
    assert {"/".join(key.path[1:]) for key in found if key.path[0] == "lesion_classification"} == expected


def test_every_task_has_the_whole_line(definitions):
    """A task whose line lacks a step ends before its service, without a word."""
    from derm_ml.registry import all_tasks

    keys = {tuple(key.path) for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    steps = ("incoming_batch", "dataset", "model", "evaluation", "registered_model", "promoted_model", "bento")
    for task in all_tasks().values():
        assert {(task.name, step) for step in (*steps, *(a.name for a in task.artifacts))} <= keys
        for verb in ("prepare", "retrain", "promote"):
            definitions.resolve_job_def(f"{task.name}_{verb}")


def test_one_location_has_one_name():
    """`dg dev` and `dagster dev -w workspace.yaml` must be the same location, or every run shows up twice."""
    import tomllib
    from pathlib import Path

    import yaml

    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["dg"]["project"]
    workspace = yaml.safe_load((root / "workspace.yaml").read_text(encoding="utf-8"))
    assert workspace["load_from"][0]["python_module"]["location_name"] == project["code_location_name"]


def test_the_instance_reads_its_settings(tmp_path):
    """Telemetry off, pools limited, runs watched: a typing error in dagster.yaml would undo it silently."""
    import shutil
    from pathlib import Path

    shutil.copyfile(Path(__file__).parents[2] / "dagster.yaml", tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
