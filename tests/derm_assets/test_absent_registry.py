"""A registry that does not answer, or that another one was used before: said in one sentence, nothing half-done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from derm_assets.resources.model_registry import ModelRegistry, RegistryError
from derm_ml.machine import WriteError
from derm_ml.model_folder import ModelFolder
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1])
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_locked_database_is_said_and_answers_again_when_it_is_free(registry, tmp_path):
    database = Path(registry.places.home) / "mlflow" / "mlflow.db"
    patient = ModelRegistry(places=registry.places, tracking_uri=f"sqlite:///{database}?timeout=0.5")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    folder = tmp_path / "model"
    with pytest.raises(RegistryError, match="another program keeps its database locked; end that program or wait"):
        patient.begin(TASK, folder, TASK.recipe("drawn"), {})
    assert not folder.exists()
    holder.communicate("")
    assert patient.begin(TASK, folder, TASK.recipe("drawn"), {}).id


def test_a_server_that_is_down_is_named(places, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    down = ModelRegistry(places=places, tracking_uri="http://someone:secret@127.0.0.1:3298")
    with pytest.raises(
        RegistryError, match=r"http://127\.0\.0\.1:3298 cannot be used: no server answers there"
    ) as said:
        down.version(TASK, "champion")
    assert "secret" not in str(said.value)


@pytest.mark.parametrize(
    ("content", "why"), [(b"no database" * 100, "its file is no database, or is damaged"), (None, "is a file, not a")]
)
def test_a_home_that_is_no_registry_is_named(places, content, why):
    if content is None:
        Path(places.home).write_text("a file where the folder belongs")
    else:
        (Path(places.home) / "mlflow").mkdir(parents=True)
        (Path(places.home) / "mlflow" / "mlflow.db").write_bytes(content)
    with pytest.raises((RegistryError, WriteError), match=why):
        ModelRegistry(places=places).version(TASK, "champion")


def test_a_model_that_came_from_another_registry_gets_a_run_of_this_one(registry, tmp_path):
    """A folder copied from a colleague, or a registry that was moved to a server: the model is as good as before."""
    folder, foreign = tmp_path / "model", "f" * 32
    folder.mkdir()
    ModelFolder(folder).registry_run.write_text(foreign + "\n")
    run = registry.begin(TASK, folder, TASK.recipe("drawn"), {"dataset_md5": "x"})
    assert foreign in run.note
    assert run.id != foreign
    assert registry.client.get_run(run.id).data.tags["earlier_run"] == foreign
    again = registry.begin(TASK, folder, TASK.recipe("drawn"), {"dataset_md5": "x"})
    assert (again.id, again.note) == (run.id, "")
    registry.client.delete_run(run.id)
    assert registry.begin(TASK, folder, TASK.recipe("drawn"), {}).id not in (run.id, foreign)


def test_the_run_page_shows_the_sentence_first(definitions, instance):
    """A person looks at the failed step: what to do stands there, the stack trace below it."""
    done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False, asset_selection=[dg.AssetKey([TASK.name, "model"])],
        run_config={"ops": {f"{TASK.name}__model": {"config": {"recipe": {"drawn": {}}}}}},
    )  # fmt: skip
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert told.description.startswith(f"{TASK.name}/dataset was never materialised")
