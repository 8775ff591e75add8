"""A delivered batch: what is good is taken, what is not is listed, and delivering it again changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from derm_ml.incoming import take_in
from derm_ml.records import DataError
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")
SETTINGS = TASK.settings()


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def batch_of(folder: Path, seeds: dict[str, list[int]]) -> Path:
    """A batch in class folders: label → seeds of its pictures."""
    for label, numbers in seeds.items():
        for seed in numbers:
            write(folder / label / f"{label}{seed}.png", seed)
    return folder


@pytest.fixture
def raw(tmp_path) -> Path:
    return tmp_path / "raw" / TASK.name


@pytest.fixture
def batch(tmp_path) -> Path:
    return batch_of(tmp_path / "incoming" / "monday", {"nevus": [1, 2, 3], "melanoma": [4, 5]})


def names(raw: Path) -> list[str]:
    return sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.is_file())


def test_a_batch_is_taken_whole(batch, raw):
    intake = take_in(TASK, batch, raw, SETTINGS)
    assert (intake.delivered, intake.taken, intake.left_out) == (5, 5, ())
    assert intake.folder == raw / "batches" / f"monday-{intake.content[:8]}"
    assert {s.label for s in TASK.read(raw, SETTINGS).samples} == {"nevus", "melanoma"}


@pytest.mark.parametrize("name", ["monday", "tuesday"])
def test_the_same_content_again_changes_nothing(batch, raw, name):
    """Under its old name or a new one: a courier that retries must not double the data."""
    take_in(TASK, batch, raw, SETTINGS)
    before = names(raw)
    again = take_in(TASK, shutil.copytree(batch, batch.parents[1] / "again" / name), raw, SETTINGS)
    assert (again.taken, again.duplicates, again.folder) == (0, 5, None)
    assert names(raw) == before


def test_bad_and_known_pictures_are_left_out_and_the_others_go_on(batch, raw):
    take_in(TASK, batch, raw, SETTINGS)
    second = batch_of(batch.parent / "tuesday", {"nevus": [3, 6, 7]})  # 3 is known
    write(second / "nevus" / "twin.png", 6)  # twice in this batch
    (second / "nevus" / "cut.png").write_bytes((second / "nevus" / "nevus7.png").read_bytes()[:100])
    (second / "nevus" / "empty.png").touch()
    intake = take_in(TASK, second, raw, SETTINGS)
    assert (intake.delivered, intake.taken, intake.duplicates, len(intake.left_out)) == (6, 2, 2, 4)
    assert {Path(p.file).name for p in intake.left_out} == {"nevus3.png", "twin.png", "cut.png", "empty.png"}
    assert len(TASK.read(raw, SETTINGS).samples) == 7
    assert not TASK.read(raw, SETTINGS).problems


def test_a_list_loses_the_rows_of_what_was_left_out(tmp_path, raw):
    """Otherwise the dataset would report them as missing, with the wrong reason."""
    batch = tmp_path / "incoming" / "official"
    TASK.draw(batch, 10, seed=1)
    broken = sorted((batch / "ISIC-2017_Training_Data").glob("*.jpg"))[0]
    broken.write_bytes(b"\xff\xd8 no picture")
    intake = take_in(TASK, batch, raw, SETTINGS)
    assert intake.taken == 9
    reading = TASK.read(raw, SETTINGS)
    assert len(reading.samples) == 9
    assert not reading.problems


def test_a_batch_without_a_good_picture_fails_and_leaves_nothing(tmp_path, raw):
    batch = tmp_path / "incoming" / "bad"
    (batch / "nevus").mkdir(parents=True)
    (batch / "nevus" / "a.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(DataError, match=r"none of its 1 images can be used; the first is nevus/a\.png"):
        take_in(TASK, batch, raw, SETTINGS)
    assert not raw.exists()


def test_an_empty_batch_is_refused(tmp_path, raw):
    (tmp_path / "incoming" / "empty").mkdir(parents=True)
    with pytest.raises(DataError):
        take_in(TASK, tmp_path / "incoming" / "empty", raw, SETTINGS)


def test_a_wrong_list_names_file_and_line_and_nothing_is_taken(tmp_path, raw):
    batch = tmp_path / "incoming" / "typo"
    batch_of(batch, {"images": [1, 2]})
    (batch / "labels.csv").write_text("filename,label\nimages/images1.png,nevus\nimages/images2.png,nevsu\n")
    with pytest.raises(DataError, match=r"labels\.csv.*3"):
        take_in(TASK, batch, raw, SETTINGS)
    assert not raw.exists()


def test_a_raw_folder_that_is_itself_one_set_hides_no_batch(tmp_path, batch, raw):
    """Readers take such a folder as one set: the batch beside its files would never be seen."""
    TASK.draw(raw, 6, seed=2)
    before = names(raw)
    with pytest.raises(DataError, match="move its files into a folder of their own"):
        take_in(TASK, batch, raw, SETTINGS)
    assert names(raw) == before


def test_a_crash_while_copying_leaves_no_half_batch(batch, raw, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            take_in(TASK, batch, raw, SETTINGS)
    assert names(raw) == []
    assert take_in(TASK, batch, raw, SETTINGS).taken == 5
