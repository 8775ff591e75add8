"""A training in a process of its own, as `DERM_TRAINER=subprocess` asks: launched through the queue, seen in the run.

Each step is a process too, as `DERM_EXECUTOR=multiprocess` asks. What ends the training's process (memory, a person, a
bad setting) must leave the run to say so.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest

from derm_assets.executing import EXECUTOR
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.trainer import SETTING, SubprocessTrainer, Trainer, trainer_from_environment
from derm_ml.bundles.bundle import Bundle, read_card
from derm_ml.jobs import Job, JobError
from derm_ml.registry import get_task
from derm_ml.sentences import WrongValue

TASK = "lesion_classification"
RECIPE = {"epochs": 3, "side": 32, "workers": 0, "precision": "32-true"}
ENTRY = "derm_assets.fit_job"


@pytest.fixture(scope="module")
def operator():
    return {SETTING: "subprocess", EXECUTOR: "multiprocess"}, {}


def until(what, seconds: float = 300):
    """What it answers first that is not false; the limit is only there so that a broken product ends the test."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came about")


def epochs_of(installation, run_id: str) -> list[int]:
    entries = installation.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    seen = [entry.dagster_event.asset_observation_data.asset_observation.metadata["epoch"] for entry in entries]
    return [int(value.value) for value in seen]


def trainings(installation) -> list[psutil.Process]:
    """The processes of this Dagster that train, the one that was started first of them in front."""
    found = []
    for process in psutil.Process(installation.dagster.process_group).children(recursive=True):
        try:
            if ENTRY in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=psutil.Process.create_time)


def test_a_training_in_its_own_process_survives_what_happens_to_it(installation):
    """Killed for want of memory, cancelled on two devices, then finished on one: one model, each epoch in its run."""
    get_task(TASK).draw(installation.places.raw(get_task(TASK)) / "downloaded", 48, seed=1)
    first = installation.launch("dataset", "model", task=TASK, recipe={"drawn": RECIPE})
    until(lambda: 1 in epochs_of(installation, first))
    until(lambda: list(Path(installation.places.out).rglob("checkpoint.safetensors")))  # written beside the training
    os.kill(trainings(installation)[0].pid, signal.SIGKILL)
    assert installation.end(first) == dg.DagsterRunStatus.FAILURE
    said = "\n".join(installation.said)
    assert "the training's process was ended by SIGKILL, most likely by the system for want of memory" in said
    # the run's worker lived: it marked the step failed, and nothing starts it again unasked
    assert installation.instance.all_logs(first, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert installation.instance.get_run_by_id(first).tags.get("dagster/will_retry", "false") == "false"

    second = installation.launch("model", task=TASK, recipe={"drawn": {**RECIPE, "devices": 2, "epochs": 30}})
    until(lambda: epochs_of(installation, second))
    running = trainings(installation)
    assert len(running) == 3, "the training's process and one for each device"
    installation.dagster.client.terminate_run(second)
    assert installation.end(second) == dg.DagsterRunStatus.CANCELED
    assert psutil.wait_procs(running, timeout=60)[1] == []

    third = installation.launch("model", task=TASK, recipe={"drawn": RECIPE})
    installation.succeed(third)
    assert epochs_of(installation, third)[-1] == 3
    assert len(epochs_of(installation, third)) < 3, "it began anew"
    made = Path(installation.metadata(TASK, "model")["path"].value)
    registry = ModelRegistry(places=installation.places)
    run = registry.client.get_run(registry.run_of(get_task(TASK), made).id)
    assert run.info.status == "FINISHED"
    curve = registry.client.get_metric_history(run.info.run_id, "validation_loss")
    assert sorted({point.step for point in curve}) == [1, 2, 3]

    taught = {"distillation": {"teacher": made.parent.name}, "backbone": "resnet18", "pretrained": "none"}
    fourth = installation.launch("model", task=TASK, recipe={"distilled": {**RECIPE, "epochs": 1, **taught}})
    installation.succeed(fourth)
    student = read_card(Path(installation.metadata(TASK, "model")["path"].value))
    assert student.distilled is not None
    assert (student.distilled.teacher, student.distilled.version) == (made.parent.name, Bundle.open(made).version)


def test_an_autoencoder_trains_there_too_and_a_refusal_is_its_own_sentence(installation):
    raw = installation.places.raw(get_task(TASK)) / "downloaded"
    if not raw.exists():
        get_task(TASK).draw(raw, 48, seed=1)
    wrong = {"drawn_autoencoder": {**RECIPE, "epochs": 1, "batch_size": 7, "devices": 2}}
    failed = installation.launch("dataset", "autoencoder", task=TASK, recipe=wrong, op="autoencoder")
    assert installation.end(failed) == dg.DagsterRunStatus.FAILURE
    assert "batch_size 7 cannot be dealt out evenly to 2 devices" in "\n".join(installation.said)
    right = {"drawn_autoencoder": {**RECIPE, "epochs": 1}}
    done = installation.launch("autoencoder", task=TASK, recipe=right, op="autoencoder")
    installation.succeed(done)
    assert epochs_of(installation, done) == [1]


def test_the_setting_names_the_trainer(monkeypatch):
    kinds = {"": Trainer, "process": Trainer, " subprocess ": SubprocessTrainer}
    for name, kind in kinds.items():
        monkeypatch.setenv(SETTING, name)
        assert type(trainer_from_environment()) is kind
    monkeypatch.setenv(SETTING, "kubernets")
    said = r"DERM_TRAINER: no trainer 'kubernets' \(did you mean 'kubernetes'\?\); there are process, subprocess, slurm"
    with pytest.raises(WrongValue, match=said):
        trainer_from_environment()


def test_a_job_is_read_as_it_was_written(tmp_path):
    job = Job(TASK, get_task(TASK).recipe("strong", epochs=3, hidden=(4, 2)), tmp_path / "data", "1.dir", tmp_path)
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no training job"),
        ('{"task": "nothing"}', r"is no training job .*no task 'nothing'.*: start the training again"),
        ("[]", "is not readable in the training-job format"),
        ('{"schema_version": 9}', "has version 9 of the training-job format"),
    ],
)
def test_what_is_no_job_is_named(tmp_path, content, said):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(JobError, match=rf"job\.json {said}"):
        Job.read(tmp_path / "job.json")
    with pytest.raises(JobError, match=r"none\.json cannot be read"):
        Job.read(tmp_path / "none.json")
