"""The data store on a real DVC project: the version is DVC's, the data do not change under a training."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from derm_assets.resources.data_store import DataStore, DataStoreError
from derm_assets.resources.places import Places
from derm_ml.data.dataset import Dataset
from derm_ml.places import PROJECT
from derm_ml.records import SPLITS
from derm_ml.registry import get_task
from derm_ml.tree import folder_md5

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


@pytest.fixture
def store(places) -> DataStore:
    return DataStore(places=places, patience=0)


def test_a_fresh_folder_becomes_a_project_and_new_pictures_a_new_version(store, places):
    """The version Dagster shows is the md5 in dvc.lock, and the old version stays readable."""
    raw = places.raw(TASK)
    TASK.draw(raw / "first", 12, seed=1)
    first = store.prepare(TASK)
    assert first.md5 == folder_md5(first.path) == Dataset.open(first.path).md5
    said: list[str] = []
    assert store.prepare(TASK, said.append) == first
    assert any("didn't change" in line for line in said)  # unchanged inputs are not prepared again
    TASK.draw(raw / "second", 12, seed=2)
    second = store.prepare(TASK)
    assert second.md5 != first.md5
    assert len(Dataset.open(first.path).manifest) == 12  # a training on it goes on undisturbed
    assert len(Dataset.open(second.path).manifest) == 24


def splits_of(path: Path) -> dict[str, str]:
    """sha256 of each stored picture → its split."""
    table = Dataset.open(path).manifest
    return dict(zip(table["image.sha256"], table["split"], strict=True))


def test_pictures_that_arrive_do_not_move_the_others_even_if_the_prepared_folder_was_removed(store, places, tmp_path):
    """Else the champion is tested on what it learned."""
    TASK.draw(tmp_path / "drawn", 60, seed=1)
    pictures = sorted((tmp_path / "drawn").rglob("*.jpg"))

    def deliver(source: str, some: list[Path]) -> None:
        for number, path in enumerate(some):  # without official splits, and with names that come again
            target = places.raw(TASK) / source / TASK.labels[number % 3] / f"IMG_{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)

    deliver("clinic", pictures[:30])
    first = splits_of(store.prepare(TASK).path)
    assert set(first.values()) == set(SPLITS)
    shutil.rmtree(Path(places.data) / "prepared")
    deliver("batches/monday", pictures[30:45])  # sorts before, so its pictures get the short ids
    second = splits_of(store.prepare(TASK).path)
    deliver("batches/tuesday", pictures[45:])
    third = splits_of(store.prepare(TASK).path)
    assert (len(first), len(second), len(third)) == (30, 45, 60)
    assert first.items() <= second.items() <= third.items()


def test_a_dataset_that_cannot_be_put_back_is_not_dealt_anew_in_silence(store, places):
    TASK.draw(places.raw(TASK), 6, seed=1)
    store.prepare(TASK)
    shutil.rmtree(Path(places.data) / "prepared")
    shutil.rmtree(store.root / ".dvc" / "cache")
    with pytest.raises(DataStoreError, match="its splits cannot be kept: run `dvc pull`"):
        store.prepare(TASK)


def test_a_wrong_list_fails_with_file_and_line(store, places):
    folder = places.raw(TASK)
    TASK.draw(folder, 12, seed=1)
    path = folder / "ISIC-2017_Test_Part3_GroundTruth.csv"
    path.write_text(path.read_text().replace("0.0", "perhaps", 1))
    with pytest.raises(DataStoreError, match=r"ISIC-2017_Test_Part3_GroundTruth\.csv"):
        store.prepare(TASK)


def test_missing_raw_data_say_where_to_put_them(store):
    with pytest.raises(DataStoreError, match="put the images there as downloaded"):
        store.prepare(TASK)


def test_a_lock_held_by_another_process_is_waited_for_then_named(store, places, monkeypatch):
    """Two batches at once: the second waits for the first, and a hung one does not hide."""
    TASK.draw(places.raw(TASK), 3, seed=1)
    answers = [(255, "ERROR: Unable to acquire lock. Most likely another DVC process is running"), (0, "")]
    monkeypatch.setattr(DataStore, "_dvc", lambda self, *a, say=None: answers.pop(0) if a[0] == "repro" else (0, ""))
    with pytest.raises(DataStoreError, match="Unable to acquire lock"):
        store._repro(TASK, print)
    answers.insert(0, (255, "'data/raw' is busy, it is being blocked by"))
    DataStore(places=places, patience=60)._repro(TASK, print)
    assert not answers


def test_a_task_without_its_line_in_params_yaml_is_named(store, places):
    root = Path(places.data).parent
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text("tasks: {}\n")
    with pytest.raises(DataStoreError, match=f"add the line `{TASK.name}: {{}}`"):
        store.settings(TASK)


def test_a_wrong_parameter_is_named(store, places):
    root = Path(places.data).parent
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(f"tasks:\n  {TASK.name}: {{store_size: 512}}\n")
    with pytest.raises(DataStoreError, match="store_size"):
        store.settings(TASK)


def test_the_data_folder_must_be_called_data(tmp_path):
    places = Places(data=str(tmp_path / "images"), out="out", home="home")
    with pytest.raises(DataStoreError, match="must end in /data"):
        DataStore(places=places).settings(TASK)


def test_dvc_prepares_and_nothing_else():
    """Order, timing and checks belong to Dagster: a train stage here would be a second owner."""
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert list(stages) == ["prepare"]


def test_a_fresh_clone_is_a_dvc_project():
    """`git clone` and nothing else: what DVC needs must be committed."""
    wanted = [".dvc/config", ".dvcignore", "dvc.yaml", "params.yaml"]
    assert all((PROJECT / name).is_file() for name in wanted)
    ignored = subprocess.run(["git", "check-ignore", *wanted], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert not ignored.stdout


def test_another_machine_pulls_what_one_prepared_and_a_damaged_object_is_refused(places, tmp_path):
    """It has the project's dvc.lock and nothing else; what is damaged on the way must not become a version."""
    remote = tmp_path / "remote"
    TASK.draw(places.raw(TASK) / "first", 12, seed=1)
    made = DataStore(places=places, remote=str(remote)).prepare(TASK)
    assert len([path for path in remote.rglob("*") if path.is_file()]) > 3

    there = Places(data=str(tmp_path / "there/data"), out=str(tmp_path / "out"), home=str(tmp_path / "home2"))
    store = DataStore(places=there, remote=str(remote))
    store.settings(TASK)  # makes the project
    shutil.copyfile(Path(places.data).parent / "dvc.lock", tmp_path / "there/dvc.lock")
    shard = next((made.path / "shards").iterdir())
    digest = hashlib.md5(shard.read_bytes(), usedforsecurity=False).hexdigest()
    (stored,) = [path for path in remote.rglob(digest[2:]) if path.parent.name == digest[:2]]
    whole = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataStoreError, match=r"cannot be fetched from .*remote") as said:
        store.current(TASK)
    third = tmp_path / "third"  # has not even dvc.lock: a run there knows the version from Dagster
    elsewhere = DataStore(
        places=Places(data=f"{third}/data", out=f"{third}/out", home=f"{third}/home"), remote=str(remote)
    )
    with pytest.raises(DataStoreError, match=rf"is not here and cannot be fetched from .*{digest} \(shards/"):
        elsewhere.version(TASK, made.md5)
    assert sorted(path.name for path in third.iterdir() if path.is_dir()) == [".dvc", "home"]
    assert f"{digest} (shards/{shard.name}) missing or damaged" in str(said.value)
    assert not there.version(TASK, made.md5).exists()

    stored.write_bytes(whole)
    pulled = store.current(TASK)
    assert pulled is not None
    assert Dataset.open(pulled).md5 == made.md5
    assert Dataset.open(elsewhere.version(TASK, made.md5)).md5 == made.md5


def test_a_remote_that_cannot_be_written_is_said(places, tmp_path):
    (tmp_path / "file").touch()
    TASK.draw(places.raw(TASK) / "first", 12, seed=1)
    with pytest.raises(DataStoreError, match=f"could not push it to {tmp_path}/file/remote: see that"):
        DataStore(places=places, remote=f"{tmp_path}/file/remote").prepare(TASK)
