"""A machine whose disk is smaller than the dataset: it knows the version from Dagster and reads the rest by S3."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fsspec
import pytest

from derm_assets.resources.data_store import DataStore
from derm_assets.resources.datasets import Datasets
from derm_assets.resources.places import Places
from derm_ml.data.dataset import Dataset
from derm_ml.places import DVC_REMOTE, STREAM, VARIABLES
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.training.classifier_samples import training_samples
from derm_ml.training.feeding import EpochSampler, training_loader

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Places:
    """A machine that has nothing, and streams."""
    monkeypatch.setenv(STREAM, "1")
    monkeypatch.setenv(VARIABLES["data"], f"{tmp_path}/elsewhere/data")
    return Places(**{name: f"{tmp_path}/elsewhere/{name}" for name in ("data", "out", "home")})


@pytest.fixture(params=["folder", "s3", "gs", "az"])
def remote(request, tmp_path, monkeypatch) -> str:
    """Where DVC pushes: a folder, or a bucket of a server of that protocol."""
    address = f"{tmp_path}/remote"
    if request.param == "s3":
        objects = request.getfixturevalue("objects")
        monkeypatch.setenv("AWS_ENDPOINT_URL", objects["MLFLOW_S3_ENDPOINT_URL"])
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, objects[name])
        address = "s3://derm/streamed"
    elif request.param != "folder":
        for name, value in request.getfixturevalue({"gs": "google", "az": "azure"}[request.param]).items():
            monkeypatch.setenv(name, value)
        address = f"{request.param}://derm/streamed"
    monkeypatch.setenv(DVC_REMOTE, address)
    return address


def test_what_dvc_pushed_is_read_without_bringing_a_shard_and_damage_is_named(places, elsewhere, remote):
    TASK.draw(places.raw(TASK) / "first", 24, seed=1)
    made = DataStore(places=places, remote=remote).prepare(TASK)
    mine = Dataset.open(made.path)

    streamed = Datasets(elsewhere).dataset(TASK, made.md5)
    assert streamed.path == elsewhere.version(TASK, made.md5)
    assert not list(Path(elsewhere.data).rglob("*.tar"))
    assert not (Path(elsewhere.data).parent / ".dvc").exists(), "DVC was asked for what it would have brought whole"
    rows = mine.manifest.to_dict("records")
    assert [streamed.read(row) for row in rows] == [mine.read(row) for row in rows]

    train = mine.split("train")  # in workers that were forked after this process has asked the store
    recipe = TASK.recipe("drawn", side=32)
    batches = []
    for dataset in (mine, streamed):
        load = training_samples(dataset, train, recipe.image, recipe.patient)
        for path in (Path(elsewhere.data) / "cache" / "streamed").glob("*-*"):
            path.unlink()
        batches.append([b[0].numpy() for b in training_loader(load, EpochSampler(len(train), 4, seed=3), 3, workers=2)])
    assert all((a == b).all() for a, b in zip(*batches, strict=True))

    shard = next((made.path / "shards").iterdir()).read_bytes()
    md5 = hashlib.md5(shard, usedforsecurity=False).hexdigest()
    system, path = fsspec.url_to_fs(f"{remote}/files/md5/{md5[:2]}/{md5[2:]}")
    for path_of_block in (Path(elsewhere.data) / "cache" / "streamed").glob("*-*"):
        path_of_block.unlink()
    if remote.startswith("/"):
        Path(path).chmod(0o600)
    system.pipe_file(path, bytes(len(shard)))
    with pytest.raises(DataError, match=rf"image {rows[0]['id']} .*{md5[2:]} is damaged: remove it there"):
        streamed.read(rows[0])
    system.pipe_file(path, shard[:1000])
    with pytest.raises(DataError, match=rf"image {rows[-1]['id']} .*files/md5/{md5[:2]}/{md5[2:]} "):
        streamed.read(rows[-1])
    system.rm_file(path)
    with pytest.raises(DataError, match=rf"image {rows[0]['id']} .*{md5[2:]} is missing: run `dvc push`"):
        streamed.read(rows[0])
