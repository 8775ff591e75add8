"""Runs as people launch them: through webserver, queue and daemon, each in a process of its own, trained by workers.

`execute_in_process` meets none of this: all training from the UI was once broken while every test passed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import httpx
import pytest

from derm_assets.definitions import defs
from derm_assets.launching import LaunchError
from derm_assets.resources.model_registry import ModelRegistry
from derm_ml.files import sha256
from derm_ml.places import PROJECT
from derm_ml.promotion import CHAMPION
from derm_ml.registry import get_task

ALL = "__ASSET_JOB"  # what the button "Materialize" launches
# one worker whatever the number of cores; one thread, so that weights can be compared bit by bit
WORKER = {"workers": 1, "precision": "32-true"}
HEADS = {  # task → recipe values, one for each kind of head
    "lesion_classification": {
        "drawn": {"optimiser": {"epochs": 1}, "image": {"side": 32}, "hardware": WORKER}
    },  # softmax
    "retinal_findings": {"drawn": {"epochs": 1, "side": 64, **WORKER}},  # sigmoid
    "persistent_conditions": {  # pairs
        "learned": {"epochs": 1, "side": 84, "pairs_per_photo": 1, "batch_size": 8, "visits": 1, **WORKER}
    },
}


def put_raw(installation, task: str, n: int = 48) -> None:
    raw = installation.places.raw(get_task(task)) / "downloaded"
    if not raw.exists():
        get_task(task).draw(raw, n, seed=1)


@pytest.mark.parametrize("task", HEADS)
def test_a_launched_run_trains_a_network_of_every_kind_of_head(installation, task):
    put_raw(installation, task)
    installation.succeed(installation.launch("dataset", "model", task=task, recipe=HEADS[task]))
    assert Path(installation.metadata(task, "model")["path"].value, "bundle.json").is_file()


def test_a_launched_run_trains_an_autoencoder(installation):
    put_raw(installation, "lesion_classification")
    recipe = {"drawn_autoencoder": {"epochs": 1, "side": 32, **WORKER}}
    installation.succeed(
        installation.launch("dataset", "autoencoder", task="lesion_classification", recipe=recipe, op="autoencoder")
    )


KILLED = "lesion_segmentation"
LONG = {"epochs": 4, "side": 64, "batch_size": 8, **WORKER}
UNINTERRUPTED = """
import sys
from pathlib import Path
from derm_ml.data.dataset import Dataset
from derm_ml.registry import get_task
task = get_task(sys.argv[1])
recipe = task.recipe("drawn", epochs=4, side=64, batch_size=8, workers=0, precision="32-true")
task.fit(Dataset.open(Path(sys.argv[2])), recipe, Path(sys.argv[3]))
"""


def epochs_of(instance: dg.DagsterInstance, run_id: str) -> list[int]:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    seen = [entry.dagster_event.asset_observation_data.asset_observation.metadata["epoch"] for entry in entries]
    return [int(value.value) for value in seen]


def until(what, seconds: float = 900):
    """What it answers first that is not false; the limit is only there so that a broken product ends the test."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError("it never came about")


def process_of(instance: dg.DagsterInstance, run_id: str) -> int:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    return next(int(p.value) for e in entries if (p := e.dagster_event.engine_event_data.metadata.get("pid")))


def retry_of(instance: dg.DagsterInstance, run_id: str) -> str:
    runs = until(lambda: instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id})))
    assert len(runs) == 1
    return runs[0].run_id


def test_a_killed_training_goes_on_by_itself_to_the_weights_of_one_that_was_not(installation, tmp_path):
    """Out of memory, then a power cut: in the morning the model is there, and nobody freed a slot by hand."""
    instance = installation.instance
    put_raw(installation, KILLED)
    first = installation.launch("dataset", "model", task=KILLED, recipe={"drawn": LONG})
    until(lambda: 1 in epochs_of(instance, first))
    os.kill(process_of(instance, first), signal.SIGKILL)

    second = retry_of(instance, first)
    until(lambda: epochs_of(instance, second))
    installation.power_cut()
    assert instance.get_run_by_id(second).status == dg.DagsterRunStatus.STARTED
    installation.start()
    third = retry_of(instance, second)
    installation.succeed(third)

    told = [*epochs_of(instance, first), *epochs_of(instance, second), *epochs_of(instance, third)]
    assert sorted(set(told)) == [1, 2, 3, 4]
    assert len(told) <= 6, f"more was trained again than the epoch each was killed in: {told}"
    assert instance.event_log_storage.get_concurrency_info("gpu").claimed_slots == []

    made = Path(installation.metadata(KILLED, "model")["path"].value)
    data = installation.metadata(KILLED, "dataset")["path"].value
    command = [sys.executable, "-c", UNINTERRUPTED, KILLED, data, str(tmp_path / "whole")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert sha256(made / "weights.safetensors") == sha256(tmp_path / "whole/bundle/weights.safetensors")

    registry = ModelRegistry(places=installation.places)
    trained = registry.client.get_run(registry.run_of(get_task(KILLED), made).id)
    assert trained.info.status == "FINISHED"
    assert trained.data.tags["dagster_run_ids"] == ",".join((first, second, third))


def test_materialize_all_makes_a_released_champion_of_a_folder_of_images_and_its_links_open(installation):
    """What a newcomer does: puts a folder below data/raw, presses the button, and opens what came of it."""
    put_raw(installation, KILLED)
    graph = defs().resolve_asset_graph()
    group = {key for key in graph.executable_asset_keys if graph.get(key).group_name == KILLED}
    assert installation.dagster is not None
    config = {"ops": {f"{KILLED}__model": {"config": {"recipe": {"drawn": LONG}}}}}
    installation.succeed(installation.dagster.launch(ALL, config, sorted(group)))
    registry = ModelRegistry(places=installation.places)
    assert registry.version(get_task(KILLED), CHAMPION) is not None
    assert Path(installation.metadata(KILLED, "bento")["path"].value).is_file()

    values = [value for key in group for value in installation.metadata(KILLED, key.path[-1]).values()]
    links = [value.value for value in values if isinstance(value, dg.UrlMetadataValue)]
    reports = [link for link in links if not link.startswith(registry.ui)]  # MLflow's pages are MLflow's
    assert any(link.endswith("/report.html") for link in reports)
    with httpx.Client(base_url=installation.dagster.url, timeout=30) as browser:
        for link in reports:
            assert browser.get(link).status_code == 200, f"{link} is dead"


def test_a_run_that_failed_with_a_reason_is_not_started_again(installation):
    failed = installation.launch("dataset", task="malignancy_screening")
    assert installation.end(failed) == dg.DagsterRunStatus.FAILURE
    assert any("put the images there as downloaded" in line for line in installation.said)
    tags = until(lambda: installation.instance.get_run_by_id(failed).tags.get("dagster/will_retry"))
    assert tags == "false"


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (
            {"drawn": {"optimiser": {"epochs": -3}}},
            "epochs of original value -3 failed:\n.*write 1 or more, not -3",
        ),
        ({"drawn": {"epohcs": 3}}, r"there is no setting 'epohcs' \(did you mean 'optimiser.epochs'\?\)"),
        ({"drwan": {}}, 'unexpected config entry "drwan"'),
    ],
)
def test_a_wrong_recipe_is_refused_before_there_is_a_run(installation, recipe, why):
    before = installation.instance.get_runs_count()
    with pytest.raises(LaunchError, match=why) as refused:
        installation.launch("dataset", "model", task=KILLED, recipe=recipe)
    assert "Stack Trace" not in str(refused.value)
    assert installation.instance.get_runs_count() == before
