"""A dataset larger than the disk: the same images and the same model as from local shards, or a sentence that names
what is wrong with the remote."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from derm_ml.data import shards as writing_shards
from derm_ml.data.ahead import Turns
from derm_ml.data.block_cache import BlockCache
from derm_ml.data.dataset import IN_TURN, Dataset, freeze
from derm_ml.data.prepare import prepare
from derm_ml.data.streaming import LISTED, Remote, StreamedShards, bring_without_shards, stream_limit
from derm_ml.files import sha256
from derm_ml.model_folder import ModelFolder
from derm_ml.places import DVC_REMOTE, STREAM, VARIABLES, SettingsError
from derm_ml.provenance import trained_in
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.shared import SharedPlace, SharedPlaceError
from derm_ml.training.feeding import EpochSampler
from derm_ml.tree import md5s_below

TASK = get_task("lesion_classification")
BLOCK, LIMIT = 20_000, 200_000  # bytes: as small as these images


@pytest.fixture(scope="session")
def local(made_once) -> Dataset:
    """A dataset of more shards than are read at a time."""

    def make(folder: Path) -> None:
        TASK.draw(folder / "raw", 60, seed=1)
        with pytest.MonkeyPatch.context() as small:
            small.setattr(writing_shards, "SHARD_BYTES", 60_000)
            prepare(TASK, folder / "raw", TASK.settings(), folder / "prepared")

    found = Dataset.open(made_once("many_shards", make) / "prepared")
    assert len(found.info["shards"]) > IN_TURN + 1
    return found


@pytest.fixture
def remote(local, tmp_path, monkeypatch) -> Path:
    """A folder in which the files lie as DVC pushes them, and the settings of a machine that has none of them."""
    files = md5s_below(local.path)
    order = sorted(files, key=lambda name: name.split("/"))
    listed = json.dumps([{"md5": files[name], "relpath": name} for name in order], sort_keys=True)
    for name, md5 in files.items():
        put(tmp_path / "remote", md5, (local.path / name).read_bytes())
    put(tmp_path / "remote", local.md5, listed.encode())
    monkeypatch.setenv(DVC_REMOTE, str(tmp_path / "remote"))
    monkeypatch.setenv(STREAM, f"{LIMIT / 1e9}")
    monkeypatch.setenv(VARIABLES["data"], str(tmp_path / "data"))
    return tmp_path / "remote"


def put(remote: Path, md5: str, data: bytes) -> None:
    path = stored(remote, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def stored(remote: Path, md5: str) -> Path:
    return remote / "files" / "md5" / md5[:2] / md5[2:]


@pytest.fixture
def streamed(local, remote, tmp_path) -> Dataset:
    bring_without_shards(local.md5, tmp_path / "version")
    return in_small_blocks(Dataset.open(tmp_path / "version"))


def in_small_blocks(dataset: Dataset) -> Dataset:
    files = dataset.files
    assert isinstance(files, StreamedShards)
    dataset.files = replace(files, block=BLOCK)
    return dataset


def cached(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "data" / "cache" / "streamed").iterdir() if path.is_file()]


def bytes_cached(tmp_path: Path) -> int:
    found = 0
    for path in cached(tmp_path):
        with suppress(FileNotFoundError):  # another process made room
            found += path.stat().st_size
    return found


def shard_of(dataset: Dataset, row: dict) -> str:
    assert isinstance(dataset.files, StreamedShards)
    return dataset.files.md5s[row["image.shard"]]


def test_a_streamed_dataset_is_the_same_version_and_gives_the_same_bytes(local, streamed, tmp_path):
    assert streamed.md5 == local.md5
    assert not list(streamed.path.rglob("*.tar"))
    rows = local.manifest.to_dict("records")
    assert [streamed.read(row) for row in rows] == [local.read(row) for row in rows]
    assert np.array_equal(streamed.image(rows[3]), local.image(rows[3]))
    assert freeze(streamed.path, tmp_path / "versions" / local.md5.removesuffix(".dir")).exists()
    with (streamed.path / "quarantine.csv").open("a") as file:
        file.write("changed\n")
    assert Dataset.open(streamed.path).md5 != local.md5


def read_all(path: Path, seed: int) -> None:
    dataset = in_small_blocks(Dataset.open(path))
    rows = dataset.manifest.to_dict("records")
    for place in np.random.default_rng(seed).permutation(len(rows)).tolist():
        dataset.read(rows[place])
        assert bytes_cached(path.parent) <= LIMIT


def test_processes_that_read_at_once_get_whole_images_and_keep_within_the_limit(streamed, tmp_path):
    """A cache that grows fills the disk it was to spare."""
    here = multiprocessing.get_context("fork")  # as the workers of a training
    readers = [here.Process(target=read_all, args=(streamed.path, seed)) for seed in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(120)
        assert reader.exitcode == 0
    assert len(cached(tmp_path)) > 2


def test_a_cache_makes_room_by_what_was_not_read_for_longest(tmp_path):
    cache = BlockCache(tmp_path, limit=1000)
    for name in "abc":
        cache.keep(name, bytes(300))
    assert cache.read("a", 0, 300)
    cache.keep("d", bytes(300))
    assert [name for name in "abcd" if cache.read(name, 0, 300)] == ["a", "c", "d"]
    cache.keep("e", bytes(1001))
    assert cache.read("e", 0, 1) is None
    (tmp_path / "locks" / "size").write_text("torn")  # then what lies there is counted
    (tmp_path / ".f").write_bytes(bytes(500))  # and a process that was killed left half a file
    cache.keep("g", bytes(300))
    assert cache.read("g", 0, 300)
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.is_file()) <= 1000


@pytest.mark.parametrize("how", ["cut", "damaged"])
def test_what_was_damaged_in_the_cache_is_fetched_again(local, streamed, tmp_path, how):
    row = local.split("train").iloc[0]
    streamed.read(row)
    for path in cached(tmp_path):
        data = path.read_bytes()
        path.write_bytes(data[:10] if how == "cut" else bytes(len(data)))
    assert streamed.read(row) == local.read(row)
    for path in cached(tmp_path):
        path.write_bytes(path.read_bytes()[:10])
    assert streamed.read(row) == local.read(row)


@pytest.mark.parametrize("how", ["missing", "cut", "damaged"])
def test_a_remote_object_that_is_not_whole_is_refused_with_object_and_image(local, streamed, remote, how):
    row = local.split("train").iloc[0].to_dict()
    md5 = shard_of(streamed, row)
    path = stored(remote, md5)
    data = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(data[: row["image.offset"] + 10])
    if how == "damaged":
        place = row["image.offset"] + 10
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    said = rf"image {row['id']} of shards/{row['image.shard']}: .*files/md5/{md5[:2]}/{md5[2:]} is "
    with pytest.raises(DataError, match=said + ("missing" if how == "missing" else "damaged")) as refused:
        streamed.image(row)
    assert "run `dvc push`" in str(refused.value)
    path.write_bytes(data)
    assert streamed.read(row) == local.read(row)


def test_a_damaged_list_or_manifest_brings_nothing(local, remote, tmp_path):
    manifest = stored(remote, md5s_below(local.path)["manifest.parquet"])
    manifest.write_bytes(manifest.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged: remove it there"):
        bring_without_shards(local.md5, tmp_path / "version")
    stored(remote, local.md5).write_bytes(b"[]")
    with pytest.raises(DataError, match=rf"{local.md5[2:]} is damaged: remove it there"):
        bring_without_shards(local.md5, tmp_path / "version")
    assert not (tmp_path / "version").exists()


def test_a_list_that_leads_elsewhere_writes_nothing(remote, tmp_path):
    put(remote, "0" * 32, b"")
    listed = json.dumps([{"md5": "0" * 32, "relpath": "../outside"}]).encode()
    md5 = hashlib.md5(listed, usedforsecurity=False).hexdigest() + ".dir"
    put(remote, md5, listed)
    with pytest.raises(DataError, match=r"lists '\.\./outside', which is no file of a prepared dataset"):
        bring_without_shards(md5, tmp_path / "version")


def test_a_network_that_fails_for_a_moment_costs_a_wait_and_one_that_is_down_a_sentence(local, streamed, monkeypatch):
    row, read, failures = local.split("train").iloc[0], SharedPlace.read, [3]

    def failing(place: SharedPlace, *arguments: object) -> bytes | None:
        if failures[0]:
            failures[0] -= 1
            raise SharedPlaceError("cannot be used (connection reset)") from ConnectionResetError()
        return read(place, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(SharedPlace, "read", failing)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert streamed.read(row) == local.read(row)
    failures[0] = 10**6
    with pytest.raises(DataError, match=r"files/md5/.* cannot be read: .*connection reset"):
        streamed.read(local.split("train").iloc[-1])
    assert 10**6 - failures[0] == 4


def test_a_setting_that_is_missing_or_no_number_is_said(streamed, monkeypatch):
    monkeypatch.setenv(STREAM, "twenty")
    with pytest.raises(SettingsError, match=f"{STREAM} is 'twenty': write how many GB"):
        stream_limit()
    monkeypatch.setenv(STREAM, "")
    with pytest.raises(DataError, match=f"set {STREAM}, or remove the folder to bring it whole"):
        Dataset.open(streamed.path).read(streamed.manifest.iloc[0])
    monkeypatch.setenv(STREAM, "1")
    monkeypatch.setenv(DVC_REMOTE, "")
    with pytest.raises(DataError, match=f"set {DVC_REMOTE}"):
        Dataset.open(streamed.path).read(streamed.manifest.iloc[0])
    (streamed.path / LISTED).write_text("torn")
    with pytest.raises(DataError, match=f"{LISTED} is missing or damaged"):
        _ = Dataset.open(streamed.path).md5


def test_an_epoch_goes_from_shard_to_shard_over_the_same_images_as_any_other():
    shard = np.repeat(np.arange(20), 50)
    weights = np.where(shard == 3, 5.0, 1.0).tolist()
    turns = Turns(shard, np.full(len(shard), -1), lambda _index: None, lent=50, room=0)
    for drawn in (None, weights):
        free, turn = (EpochSampler(1000, 8, 5, drawn, turns=given) for given in (None, turns))
        assert Counter(free.order(2).tolist()) == Counter(turn.order(2).tolist())
        assert turn.order(2).tolist() == EpochSampler(1000, 8, 5, drawn, turns=turns).order(2).tolist()
        assert turn.order(2).tolist() != turn.order(3).tolist()
        seen = shard[turn.order(2)]
        ends = [(int(np.flatnonzero(seen == k)[0]), int(np.flatnonzero(seen == k)[-1])) for k in range(20)]
        open_at = [sum(first <= place <= last for first, last in ends) for place in range(len(seen))]
        assert max(open_at) <= IN_TURN + 1
        assert np.mean(open_at) > IN_TURN - 1, "as many are mixed"


@pytest.fixture
def fetched(monkeypatch) -> Counter[str]:
    """How many bytes came from the remote, `ahead` or while `reading` an image, which then had to wait."""
    found, read = Counter(), Remote.read

    def counted(remote: Remote, md5: str, start: int | None = None, end: int | None = None) -> bytes:
        data = read(remote, md5, start, end)
        found["ahead" if threading.current_thread().name.startswith("fetch-ahead") else "reading"] += len(data)
        return data

    monkeypatch.setattr(Remote, "read", counted)
    return found


def test_an_epoch_fetches_each_part_once_though_the_cache_is_smaller_than_the_set(local, streamed, fetched):
    rows = local.split("train")
    turns = streamed.turns(rows)
    assert local.turns(rows) is None
    assert turns is not None
    assert turns.shard is not None
    assert turns.ahead(queued=0) == 0, "the cache has no room for a shard more than are read at a time"
    image, total = streamed.reader(rows), sum(local.info["shards"].values())
    assert isinstance(streamed.files, StreamedShards)
    assert streamed.files.cache.limit < total
    sampler = EpochSampler(len(rows), 4, 5, turns=turns)
    for epoch in range(3):
        fetched.clear()
        sampler.epoch = epoch
        for _, index in sampler:
            image(index)
        assert fetched.total() < 1.1 * total


def test_what_comes_next_is_fetched_while_the_network_computes(local, streamed, monkeypatch, fetched):
    """Else each first image of a block waits for its remote, on a GPU for longer than it is computed."""
    monkeypatch.setenv(STREAM, "1")
    dataset = in_small_blocks(Dataset.open(streamed.path))
    rows = dataset.split("train")
    turns, image = dataset.turns(rows), dataset.reader(rows)
    assert turns is not None
    assert 0 < turns.ahead(queued=0) < len(rows) / 2
    assert turns.ahead(queued=2) == turns.ahead(queued=0) - 2
    assert turns.ahead(queued=len(rows) * 2) == 0, "what workers are given at once fills the cache"
    sampler = EpochSampler(len(rows), 4, 5, turns=turns)
    for epoch in range(2):
        sampler.epoch = epoch
        for place, (_, index) in enumerate(sampler):
            if place == 0:
                time.sleep(0.5)  # the first step; threads bring what the next ones need
            image(index)
            time.sleep(0.005)
        assert fetched["reading"] <= 0.2 * fetched["ahead"]
    assert fetched.total() <= sum(local.info["shards"].values()), "nothing twice"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch-ahead")]


def test_a_block_that_cannot_be_fetched_ahead_is_an_error_where_its_image_is_read(local, remote, streamed, monkeypatch):
    monkeypatch.setenv(STREAM, "1")
    dataset = in_small_blocks(Dataset.open(streamed.path))
    rows = dataset.split("train")
    stored(remote, shard_of(dataset, rows.iloc[0].to_dict())).unlink()
    order = EpochSampler(len(rows), 4, 5, turns=dataset.turns(rows))
    with pytest.raises(DataError, match=r"image .* of shards/.* is missing"):
        _ = [image(index) for image in [dataset.reader(rows)] for _, index in order]


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_training_on_streamed_shards_gives_the_weights_of_the_same_order_and_resumes_to_them(
    local, remote, tmp_path, monkeypatch
):
    """Nobody should have to ask where the images of a model lay."""
    recipe = TASK.recipe(
        "drawn", epochs=2, side=32, batch_size=8, workers=2, precision="32-true", augmentation="strong"
    )
    bring_without_shards(local.md5, tmp_path / "version")
    streamed = Dataset.open(tmp_path / "version")

    def stop(_report: object) -> None:
        raise Interrupted

    def weights(dataset: Dataset, name: str) -> str:
        return sha256(TASK.fit(dataset, recipe, tmp_path / name) / "weights.safetensors")

    with pytest.raises(Interrupted):
        TASK.fit(streamed, recipe, tmp_path / "streamed", stop)
    shutil.rmtree(tmp_path / "data" / "cache")
    found = weights(streamed, "streamed")
    assert trained_in(ModelFolder(tmp_path / "streamed")).streamed
    turns = streamed.turns(streamed.split("train"))
    with monkeypatch.context() as same:
        same.setattr(Dataset, "turns", lambda _dataset, _rows: turns)
        assert weights(local, "local") == found
        assert not trained_in(ModelFolder(tmp_path / "local")).streamed
        same.setattr(Dataset, "turns", lambda _dataset, _rows: None)
        assert weights(streamed, "free") == weights(local, "any order") != found
