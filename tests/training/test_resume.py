"""A killed training run must not cost its user more than the epoch it was in, nor give another model."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.files import sha256
from derm_ml.machine import WriteError
from derm_ml.progress import EpochReport
from derm_ml.registry import get_task
from derm_ml.training.checkpoint import (
    CheckpointError,
    CheckpointWriter,
    load_checkpoint,
    previous_of,
    save_checkpoint,
)
from derm_ml.training.loop import _Progress

pytestmark = pytest.mark.slow

FIT = """
import sys
from pathlib import Path
from derm_ml.data.dataset import Dataset
from derm_ml.registry import get_task
task = get_task(sys.argv[4])
recipe = task.recipe("drawn", epochs=3, side=32, workers=int(sys.argv[3]), precision="32-true", dropout=0.3, ema=0.9,
                     augmentation="strong")
task.fit(Dataset.open(Path(sys.argv[1])), recipe, Path(sys.argv[2]), lambda r: print("epoch", r.epoch, flush=True))
"""


def start(data: Dataset, out: Path, workers: int) -> subprocess.Popen:
    # A session of its own, so that its workers can be killed with it. One thread: with several, how a busy machine
    # schedules a library's threads can change the order of a sum, and this test is about what is saved and restored.
    return subprocess.Popen(
        [sys.executable, "-c", FIT, str(data.path), str(out), str(workers), data.task],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["lesion_classification", "lesion_segmentation"])
def test_a_run_killed_with_sigkill_resumes_to_bitwise_the_same_weights(name, tmp_path):
    task = get_task(name)
    task.draw(tmp_path / "raw", 60, seed=1)
    data = prepare(task, tmp_path / "raw", task.settings(), tmp_path / "data")
    whole = start(data, tmp_path / "whole", workers=0)
    assert whole.wait(timeout=300) == 0

    killed = start(data, tmp_path / "killed", workers=1)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("epoch 1"):
            while not (tmp_path / "killed" / "checkpoint.safetensors").exists():  # it is written beside the training
                time.sleep(0.01)
            os.killpg(killed.pid, signal.SIGKILL)
            break
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "bundle").exists(), "half a model must not look like a model"

    # and the disk had the last word: the checkpoint is torn, the one before it is whole
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    shutil.copyfile(checkpoint, previous_of(checkpoint))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    resumed = start(data, tmp_path / "killed", workers=1)
    output, _ = resumed.communicate(timeout=300)
    assert "epoch 1" not in output, "a finished epoch was trained again"
    assert sha256(tmp_path / "killed/bundle/weights.safetensors") == sha256(
        tmp_path / "whole/bundle/weights.safetensors"
    )


def test_the_number_of_workers_changes_nothing(drawn_dataset, tmp_path):
    """Randomness comes from (seed, epoch, sample): a machine with more cores gives the same model."""
    from derm_ml.training.classifier_samples import training_samples

    rows = drawn_dataset.split("train")
    recipe = get_task("lesion_classification").recipe("strong", side=48)
    load = training_samples(drawn_dataset, rows, recipe.image, recipe.patient)
    from derm_ml.training.feeding import EpochSampler, training_loader

    batches = []
    for workers in (0, 2):
        sampler = EpochSampler(len(rows), 8, seed=3)
        sampler.epoch = 5
        batches.append([b[0].numpy() for b in training_loader(load, sampler, 3, workers)])
    assert len(batches[0]) == len(batches[1]) == len(rows) // 8
    assert all((a == b).all() for a, b in zip(*batches, strict=True))


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"identity": "a", "epoch": 1})
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is of a run with other settings"):
        load_checkpoint(path, "b")


STATE = {
    "identity": "a",
    "history": [{"epoch": 1}],
    "weights": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "steps": {0: torch.tensor(7)},
}


def same(loaded: dict) -> bool:
    tensors = all(torch.equal(loaded[name], STATE[name]) for name in ("weights", "half"))
    return tensors and loaded["history"] == STATE["history"] and loaded["steps"][0] == 7


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_loads_unseen(place, bit):
    """Weights with one wrong byte train on, and nobody ever finds out why the score is what it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        save_checkpoint(path, STATE)
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(
            CheckpointError, match=r"checkpoint\.safetensors is damaged.*remove it, and training begins"
        ):
            load_checkpoint(path, "a")


@pytest.mark.parametrize("left", [0, 4, 60, -1], ids=["empty", "no header", "torn header", "torn tensor"])
def test_a_torn_checkpoint_gives_way_to_the_one_before_it(tmp_path, caplog, left):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, STATE)
    save_checkpoint(path, STATE | {"history": [{"epoch": 1}, {"epoch": 2}]})
    path.write_bytes(path.read_bytes()[:left])
    assert same(load_checkpoint(path, "a") or {})
    assert "checkpoint.safetensors is damaged" in caplog.text
    assert "goes on from the checkpoint before it, after epoch 1" in caplog.text
    assert same(load_checkpoint(path, "a") or {}), "it has taken the place of the damaged one"


def test_a_crash_between_the_two_renames_loses_one_epoch_not_all(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, STATE)
    path.rename(previous_of(path))
    assert same(load_checkpoint(path, "a") or {})


def test_two_damaged_checkpoints_are_both_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    for file in (path, previous_of(path)):
        file.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is damaged.*and so is checkpoint\.previous"):
        load_checkpoint(path, "a")


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path):
    """RLIMIT_FSIZE is a full disk that a test can have: the write ends in the middle of the file."""
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, STATE)
    script = f"""
import resource, torch
from pathlib import Path
from derm_ml.training.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
save_checkpoint(Path({str(path)!r}), {{"identity": "a", "weights": torch.zeros(100_000)}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "WriteError" in done.stderr
    assert f"{path} cannot be written: the file would be larger than the system allows" in done.stderr
    assert same(load_checkpoint(path, "a") or {})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_is_written_beside_the_training_is_the_state_at_the_time(tmp_path):
    """The next step changes the weights while they are on their way to the disk."""
    path = tmp_path / "checkpoint.safetensors"
    with CheckpointWriter(path) as writer:
        for epoch in range(3):
            weights = torch.full((1_000_000,), float(epoch))
            writer.save({"identity": "a", "history": [epoch], "weights": weights})
            weights.add_(0.5)
    loaded, earlier = load_checkpoint(path, "a"), load_checkpoint(previous_of(path), "a")
    assert loaded is not None
    assert earlier is not None
    assert (loaded["history"], loaded["weights"].unique().tolist()) == ([2], [2.0])
    assert (earlier["history"], earlier["weights"].unique().tolist()) == ([1], [1.0])


def test_a_checkpoint_that_could_not_be_written_is_said_not_lost(tmp_path, caplog):
    """Hours later nobody would know why there is nothing to go on from."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "checkpoint.safetensors"

    def training(epochs: int, ended_by: type[BaseException] | None = None) -> None:
        with CheckpointWriter(path) as writer:
            for epoch in range(epochs):
                assert epoch < 2, "it went on"
                writer.save(STATE)
            if ended_by:
                raise ended_by

    with pytest.raises(WriteError, match=f"{path} cannot be written"):
        training(1)
    with pytest.raises(WriteError):
        training(3)
    with pytest.raises(KeyboardInterrupt):
        training(1, KeyboardInterrupt)
    assert f"{path} cannot be written" in caplog.text, "what ended the training is not hidden by it, but both are said"


def test_a_kept_network_that_is_the_last_epoch_s_is_written_once(tmp_path):
    network = torch.nn.Linear(3, 2)
    progress = _Progress(history=[], best=-1.0, kept_epoch=0, kept_state={})
    report = EpochReport(1, 3, 1.0, {}, 0.1, 1.0, 1.0, True)
    progress.take(1, 0.5, network, always=False)
    progress.history.append(report)
    assert progress.state()["kept_state"] == {}
    save_checkpoint(tmp_path / "c.safetensors", {"identity": "a", **progress.state()})
    restored = _Progress(history=[], best=0.0, kept_epoch=0, kept_state={})
    restored.restore(load_checkpoint(tmp_path / "c.safetensors", "a") or {}, network)
    assert torch.equal(restored.kept_state["weight"], network.weight)
    progress.take(2, 0.4, network, always=False)
    progress.history.append(report)
    assert progress.state()["kept_state"].keys() == {"weight", "bias"}, "the last epoch is not the best one any more"


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    state = {
        "identity": "a",
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}, 1: {}},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
        "best": None,
    }
    save_checkpoint(tmp_path / "c.safetensors", state)
    loaded = load_checkpoint(tmp_path / "c.safetensors", "a")
    assert loaded is not None
    assert loaded["optimizer"]["state"][0]["step"].item() == 3
    assert loaded["optimizer"]["param_groups"] == [{"lr": 0.1, "params": [0, 1]}]
    assert load_checkpoint(tmp_path / "none.safetensors", "a") is None
    assert load_file(tmp_path / "c.safetensors")
