"""Several devices train the one model that one would have trained, and end together where one of them is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file

from derm_ml.ranks import SeveralProcessesError
from derm_ml.registry import get_task
from derm_ml.sentences import WrongValue
from derm_ml.training.classification import build_classifier
from derm_ml.training.devices import opened, own_share
from derm_ml.training.feeding import EpochSampler
from derm_ml.training.launcher import devices_to_start
from derm_ml.training.seeding import derived
from derm_ml.training.settings import Hardware, TrainingRecipe

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
# of what training moved the weights; one process with one and with two threads differ by 0.0005, two processes whose
# batch normalisation looks at half the batch by 0.07
TOLERANCE = 0.005
STEADY = {"side": 64, "batch_size": 24, "epochs": 2, "dropout": 0, "optimizer": "sgd", "learning_rate": 0.001}


def command(data: Path, folder: Path, *launcher: str, **values: object) -> list[str]:
    given = {"workers": 0, "precision": "32-true", **values}
    settings = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    fit = ["-m", "derm_ml.cli", "fit", TASK, "--recipe", "drawn", "--data", str(data), "--out", str(folder)]
    return [sys.executable, *launcher, *fit, *settings]


ALONE = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "1000"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=ALONE)


def weights(folder: Path) -> np.ndarray:
    """The network after the last epoch, parameters and running statistics, as one vector."""
    saved = load_file(folder / "checkpoint.safetensors")
    return flat({name.removeprefix("/network/"): v for name, v in saved.items() if name.startswith("/network/")})


def first_weights(**values: object) -> np.ndarray:
    """The network that a training with these settings begins with, in the same order."""
    torch.manual_seed(derived(0, "weights"))
    network = build_classifier(get_task(TASK).recipe("drawn", **values), 3)
    return flat({name: value.numpy() for name, value in network.state_dict().items()})


def flat(state: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([state[name].ravel().astype(float) for name in sorted(state)])


def test_two_processes_of_torchrun_train_one_model_once_and_the_one_that_one_would(drawn_dataset, tmp_path):
    """They trained it twice, each with its own steps, and wrote into one folder; both said they were done."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = run(*command(drawn_dataset.path, tmp_path / "two", *launcher, **STEADY))
    one = run(*command(drawn_dataset.path, tmp_path / "one", **STEADY))
    assert (two.returncode, one.returncode) == (0, 0), two.stderr + one.stderr
    assert two.stdout.split() == [str(tmp_path / "two")]
    assert [line.split()[0] for line in two.stderr.splitlines() if "loss train" in line] == ["1/2", "2/2"]

    begun = first_weights(**STEADY)
    alone, together = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert np.linalg.norm(together - alone) < TOLERANCE * np.linalg.norm(alone - begun)
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two")]
    for one_epoch, other in zip(*histories, strict=True):
        assert other["train_loss"] == pytest.approx(one_epoch["train_loss"], abs=2e-3)
        assert other["metrics"]["loss"] == pytest.approx(one_epoch["metrics"]["loss"], abs=2e-3)


def test_a_killed_process_ends_the_training_with_one_sentence_and_it_goes_on_later(drawn_dataset, tmp_path):
    """For want of memory on one device: the other would wait for it for ever. It goes on with one device alone."""
    values = {"side": 32, "epochs": 3}
    training = subprocess.Popen(
        command(drawn_dataset.path, tmp_path / "model", devices=2, **values),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ALONE,
    )  # fmt: skip
    assert training.stderr is not None
    for line in training.stderr:
        if "1/3" in line:
            break
    ranks = psutil.Process(training.pid).children()
    (second,) = [rank for rank in ranks if rank.environ()["RANK"] == "1"]
    checkpoint = tmp_path / "model" / "checkpoint.safetensors"
    while not checkpoint.exists():
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    _, said = training.communicate(timeout=60)
    assert training.returncode == 2
    assert "Traceback" not in said
    complaints = [line for line in said.splitlines() if line.startswith("derm: ")]
    assert len(complaints) == 1
    assert "process 2 of 2 was ended by SIGKILL, most likely by the system for want of memory" in complaints[0]
    assert psutil.wait_procs(ranks, timeout=30)[1] == []
    assert not list(tmp_path.rglob("bundle.json"))

    resumed = run(*command(drawn_dataset.path, tmp_path / "model", **values))
    assert resumed.returncode == 0, resumed.stderr
    epochs = [line.split()[0] for line in resumed.stderr.splitlines() if "loss train" in line]
    assert epochs
    assert "1/3" not in epochs


def test_processes_end_with_the_command_that_started_them(drawn_dataset, tmp_path):
    """They would train on, unseen, and write into the folder of the training that is started next."""
    training = subprocess.Popen(
        command(drawn_dataset.path, tmp_path / "model", devices=2, side=32, epochs=50),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ALONE,
    )  # fmt: skip
    process = psutil.Process(training.pid)
    while len(ranks := process.children()) < 2:
        time.sleep(0.05)
    training.kill()
    training.wait(30)
    assert psutil.wait_procs(ranks, timeout=60)[1] == []


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_validation_image_is_looked_at_once_in_order(monkeypatch, n, world):
    shares = []
    for number in range(world):
        as_rank(monkeypatch, number, world)
        shares.append(own_share(n))
    assert len({len(mine) for mine in shares}) == 1, "gathering needs shares of one size"
    assert [index for turn in zip(*shares, strict=True) for index in turn][:n] == list(range(n))


@pytest.mark.parametrize(("world", "parts"), [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_each_step_sees_the_batch_that_one_device_would_have_seen(world, parts):
    def batches(number: int) -> list[list[int]]:
        sampler = EpochSampler(43, 8, 5, None, number, world, parts)
        mine = [index for _, index in sampler]
        assert len(mine) == len(sampler)
        size = sampler.part * parts
        return [mine[i : i + size] for i in range(0, len(mine), size)]

    alone = [index for _, index in EpochSampler(43, 8, 5)]
    dealt = zip(*(batches(number) for number in range(world)), strict=True)
    assert [sorted(i for mine in step for i in mine) for step in dealt] == [
        sorted(alone[i : i + 8]) for i in range(0, len(alone), 8)
    ]


def as_rank(monkeypatch, number: int, world: int) -> None:
    for name, value in {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "RANK": number, "LOCAL_RANK": number,
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("hardware", "world", "said"),
    [
        ({"devices": 2}, 1, "2 devices on 1 machines are 2 processes, this is one: `derm fit` starts"),
        ({"devices": 2, "nodes": 2}, 2, "2 devices on 2 machines, but 2 processes were started on each of 1"),
        ({"compile": True}, 2, "hardware.compile is for one device"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_setting(monkeypatch, hardware, world, said):
    as_rank(monkeypatch, 0, world)
    with pytest.raises((SeveralProcessesError, WrongValue), match=said):
        opened(Hardware(**hardware), freezes=False)


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(WrongValue, match=r"hardware\.accelerator is cuda, but torch finds no GPU"):
        opened(Hardware(accelerator="cuda"), freezes=False)


def test_several_machines_are_started_by_torchrun():
    with pytest.raises(SeveralProcessesError, match="start the command on each machine with torchrun --nnodes 2"):
        devices_to_start(TrainingRecipe(hardware=Hardware(nodes=2)))


def test_a_batch_that_cannot_be_dealt_out_is_refused(drawn_dataset, tmp_path):
    recipe = get_task(TASK).recipe("drawn", side=32, batch_size=10, accumulate=4, workers=0)
    with pytest.raises(WrongValue, match="batch_size 10 cannot be dealt out evenly to 1 devices in 4 parts each"):
        get_task(TASK).fit(drawn_dataset, recipe, tmp_path)


def test_where_a_model_is_trained_does_not_name_it():
    """A training that was killed on four GPUs goes on with the two that are free."""
    task = get_task(TASK)
    here, there = task.recipe("drawn"), task.recipe("drawn", devices=4, nodes=2, accelerator="cpu", compile=True)
    assert here.identity() == there.identity()
    assert here.holds(there.model_dump(mode="json"))
    assert here.identity() != task.recipe("drawn", accumulate=2).identity()
    assert "accumulate" not in here.identity(), "models of before there was the setting would lose their folder"
