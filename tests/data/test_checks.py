"""Data that were changed after they were checked: nothing is trained on them, whichever way training is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from derm_ml.data.checks import require_usable
from derm_ml.data.dataset import Dataset
from derm_ml.records import DataError
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")


@pytest.fixture
def copy(drawn_dataset, tmp_path) -> Path:
    return Path(shutil.copytree(drawn_dataset.path, tmp_path / "dataset"))


def flip_a_byte(folder: Path) -> None:
    shard = next((folder / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[3000] ^= 1
    shard.write_bytes(bytes(data))


def test_sound_data_are_used(copy, drawn_dataset):
    require_usable(TASK, Dataset.open(copy), drawn_dataset.md5)


def test_a_flipped_byte_stops_a_training_of_that_version(copy, drawn_dataset):
    """It was trained on to the end, and the model said it knew the sound images."""
    flip_a_byte(copy)
    with pytest.raises(DataError, match=f"was changed after it was prepared .*not {drawn_dataset.md5}"):
        require_usable(TASK, Dataset.open(copy), drawn_dataset.md5)


def test_a_flipped_byte_stops_a_training_that_names_no_version(copy):
    """`derm fit` takes the folder as it is: its own hashes of each image must hold."""
    flip_a_byte(copy)
    with pytest.raises(DataError, match="a blocking data check fails, nothing is trained on these data"):
        require_usable(TASK, Dataset.open(copy))
