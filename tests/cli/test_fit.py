"""`derm fit` on a machine that has no room, no memory or too many processes: one sentence, and nothing half-made."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from derm_ml.data.prepare import prepare
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
SMALL = ["--recipe", "drawn", "--set", "image.side=32", "--set", "workers=0", "--set", "precision=32-true"]


def fit(
    data: Path,
    folder: Path,
    *options: str,
    launcher: tuple[str, ...] = (),
    limit: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
    task: str = TASK,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "derm_ml.cli", "fit", task, "--data", str(data), "--out", str(folder)]
    settings = SMALL if task == TASK else ("--recipe", "drawn")
    return subprocess.run(
        [*command, *settings, *options], capture_output=True, text=True, timeout=300, cwd=data.parent, preexec_fn=limit,
        env={**os.environ, **(environment or {}), "COLUMNS": "1000"},
    )  # fmt: skip


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of stderr, which must be the only complaint."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2
    return done.stderr.strip().splitlines()[-1]


def test_torchrun_is_refused_for_what_trains_no_network(tmp_path):
    """Each process would fit the whole and write into one folder."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    task = get_task("persistent_conditions")
    task.draw(tmp_path / "raw", 12, seed=1)
    prepare(task, tmp_path / "raw", task.settings(), tmp_path / "data")
    done = fit(tmp_path / "data", tmp_path / "model", launcher=launcher, task=task.name)
    assert done.returncode != 0
    assert "persistent_conditions with the recipe drawn is the work of one process, and 2 would write" in done.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_no_launcher_makes_one_training_many(monkeypatch, name):
    from derm_ml.ranks import Rank, SeveralProcessesError, refuse_strangers, this_rank

    monkeypatch.setenv(name, "1")
    refuse_strangers()
    monkeypatch.setenv(name, "4")
    assert this_rank() == Rank(), "other verbs are asked there too"
    with pytest.raises(SeveralProcessesError, match=f"{name}=4"):
        refuse_strangers()


def test_a_full_disk_keeps_what_was_there(drawn_dataset, tmp_path):
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    said = sentence(fit(drawn_dataset.path, tmp_path / "model", "--set", "epochs=1", limit=full))
    assert f"{tmp_path}/model/checkpoint.safetensors cannot be written" in said
    assert [p.name for p in (tmp_path / "model").iterdir()] == []


def test_too_little_memory_says_what_to_make_smaller(drawn_dataset, tmp_path):
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))

    large = ("--set", "image.side=1024", "--set", "batch_size=200", "--set", "epochs=1")
    said = sentence(fit(drawn_dataset.path, tmp_path / "model", *large, limit=little))
    assert "the memory of this machine does not suffice for epoch 1: use a batch_size below 200" in said
    assert not (tmp_path / "model" / "bundle").exists()


def test_a_network_that_left_the_numbers_becomes_no_model(drawn_dataset, tmp_path):
    """One step that is too large: the loss before it was finite, the validation after it is not."""
    wild = ("--set", "learning_rate=1e38", "--set", "warmup_epochs=0", "--set", "batch_size=999", "--set", "epochs=2",
            "--set", "optimizer=sgd", "--set", "ema=0")  # fmt: skip
    said = sentence(fit(drawn_dataset.path, tmp_path / "model", *wild))
    assert "loss of the validation split became nan in epoch 1" in said
    assert "lower the learning rate (1e+38)" in said
    assert not list(tmp_path.rglob("bundle.json"))
