"""A preparation that takes over what an earlier one computed must give the same dataset, to the byte, or its
version would depend on the machine; and it must take it over, or a hundred new images cost as much as all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from derm_ml.cache import Cache
from derm_ml.data import decoded, shards
from derm_ml.data.dataset import Dataset
from derm_ml.data.incoming import take_in
from derm_ml.data.prepare import prepare
from derm_ml.files import sha256
from derm_ml.images import duplicates
from derm_ml.images.patch_search import PatchSearch
from derm_ml.registry import get_task
from derm_ml.synthetic.lesions import CLASSES, draw_lesion

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")
SETTINGS = TASK.settings()
IMAGES = [draw_lesion(CLASSES[k % 3], 400 + k, 72, 72).image for k in range(30)]


def write(raw: Path, k: int, name: str = "", image: np.ndarray | None = None) -> None:
    path = raw / CLASSES[k % 3] / f"{name or f'image{k:02}'}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", (IMAGES[k] if image is None else image)[..., ::-1])[1].tobytes())


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several shards and several batches of the search from a handful of images."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(duplicates, "AT_ONCE", 5)


@pytest.fixture
def raw(tmp_path) -> Path:
    for k in range(18):
        write(tmp_path / "raw" / TASK.name, k)
    return tmp_path / "raw" / TASK.name


@pytest.fixture
def computed(monkeypatch) -> dict[str, int]:
    """How many images were decoded, how many kept fingerprints read, how many pairs compared, and of how many images
    the patches sorted into cells."""
    counts = {"decoded": 0, "read": 0, "compared": 0, "sorted": 0}

    def counted(module, name: str, what: str) -> None:
        original = getattr(module, name)

        def call(*arguments):
            counts[what] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, call)

    counted(decoded, "stored_form", "decoded")
    counted(decoded, "unpacked", "read")
    counted(duplicates, "compare", "compared")
    cells_of = PatchSearch.cells_of

    def call(search, patches):
        counts["sorted"] += len(patches.counts)
        return cells_of(search, patches)

    monkeypatch.setattr(PatchSearch, "cells_of", call)
    return counts


def shards_of(dataset: Dataset) -> dict[str, tuple[str, int]]:
    """Name of each shard → its sha256 and inode."""
    return {p.name: (sha256(p), p.stat().st_ino) for p in sorted((dataset.path / "shards").iterdir())}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(18, 29)),
        st.tuples(st.just("copy"), st.integers(0, 17)),
        st.tuples(st.just("remove"), st.integers(0, 17)),
        st.tuples(st.just("replace"), st.integers(0, 17)),
        st.tuples(st.just("break"), st.integers(0, 17)),
        st.tuples(st.just("side"), st.sampled_from([64, 512])),
        st.tuples(st.just("damage the cache"), st.integers(0, 10**6)),
        st.tuples(st.just("damage a shard"), st.integers(0, 10**6)),
        st.tuples(st.just("forget"), st.just(0)),
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    steps=[
        ("add", 20), ("side", 64), ("forget", 0), ("copy", 3), ("damage the cache", 40_000), ("remove", 4),
        ("damage a shard", 9_000), ("replace", 7), ("break", 5), ("side", 512),
    ]
)  # fmt: skip
@given(steps=STEPS)
def test_whatever_is_taken_over_the_dataset_is_the_same_to_the_byte(steps, tmp_path_factory):
    home = tmp_path_factory.mktemp("steps")
    raw, out, side = home / "raw", home / "prepared", 512
    for k in range(18):
        write(raw, k)
    with Cache(home / "cache") as cache:
        prepare(TASK, raw, SETTINGS, out, cache=cache)
    for what, k in steps:
        path = raw / CLASSES[k % 3] / f"image{k:02}.png"
        if what == "add":
            write(raw, k)
        elif what == "copy":
            write(raw, k, f"a copy of {k}", np.ascontiguousarray(IMAGES[k][:, ::-1]))
        elif what == "remove":
            path.unlink(missing_ok=True)
        elif what == "replace":
            write(raw, k, image=IMAGES[29 - k])
        elif what == "break":
            path.write_bytes(b"no image")
        elif what == "side":
            side = k
        elif what == "damage the cache":
            harm(home / "cache", k)
        elif what == "damage a shard":
            harm(sorted((out / "shards").iterdir())[0], k)
        before = Path(shutil.copytree(out, home / "before"))
        chosen = TASK.settings(store_side=side)
        with Cache(home / "cache") as cache:
            taken_over = prepare(TASK, raw, chosen, out, cache=cache)
            if what == "forget":
                cache.forget_unused()
        alone = prepare(TASK, raw, chosen, home / "alone", kept=before)
        assert taken_over.md5 == alone.md5
        shutil.rmtree(before)


def harm(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    for place in (where % len(data), where * 7919 % len(data)):
        data[place] ^= 0x55
    path.write_bytes(data)


def test_a_delivery_adds_shards_and_costs_its_own_images(raw, tmp_path, computed):
    out, known = tmp_path / "prepared", tmp_path / "cache"
    with Cache(known) as cache:
        before = shards_of(prepare(TASK, raw, SETTINGS, out, cache=cache))
        cache.forget_unused()
    assert len(before) > 1
    for number, new in enumerate(([18, 19, 20], [21, 22])):
        for k in new:
            write(tmp_path / f"delivery{number}", k, f"0 before all others {k}")
        computed.update(decoded=0, compared=0, sorted=0)
        with Cache(known) as cache:
            take_in(TASK, tmp_path / f"delivery{number}", raw, SETTINGS, out, cache=cache)
        with Cache(known) as cache:  # as another process does, which then forgets what it has not used
            dataset = prepare(TASK, raw, SETTINGS, out, cache=cache)
            cache.forget_unused()
        assert computed["decoded"] == len(new)  # once, though it was tried before it was accepted
        assert computed["compared"] <= 4 * (len(new) + duplicates.AT_ONCE)
        if number:  # the first delivery begins a fifth batch, and so new cells
            assert computed["sorted"] <= duplicates.AT_ONCE
        after = shards_of(dataset)
        assert {name: after[name] for name in before} == before
        assert len(after) == len(before) + 1
        before = after
    dataset = Dataset.open(out)
    assert len(dataset.manifest) == 23
    for _, row in dataset.manifest.iterrows():
        assert dataset.image(row).shape == (72, 72, 3)


def test_a_preparation_that_was_killed_goes_on(raw, tmp_path, computed):
    code = f"""
        import os, signal
        from pathlib import Path
        from derm_ml import cache
        from derm_ml.data.prepare import prepare
        from derm_ml.images import duplicates
        from derm_ml.registry import get_task
        cache._WAITING = duplicates.AT_ONCE = 5
        task = get_task("{TASK.name}")
        def progress(stage, done, total):
            if stage == os.environ["AT"] and done >= 12:
                os.kill(os.getpid(), signal.SIGKILL)
        known = cache.Cache(Path("{tmp_path}/cache"))
        prepare(task, Path("{raw}"), task.settings(), Path("{tmp_path}/out"), progress, cache=known)
    """
    # two batches of five were written; a thread that was between its two entries may have left an image with one
    for stage, decoded_again in (("decode", 18 - 1), ("compare", 0)):
        run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"AT": stage}, check=False)
        assert run.returncode == -9
        assert not (tmp_path / "out").exists()
        for path in tmp_path.glob("cache*"):
            shutil.copy(path, tmp_path / path.name.replace("cache", "as left"))
        computed.update(decoded=0, compared=0)
        with Cache(tmp_path / "as left") as cache:
            resumed = prepare(TASK, raw, SETTINGS, tmp_path / "resumed", cache=cache)
        assert computed["decoded"] <= decoded_again
        assert resumed.md5 == prepare(TASK, raw, SETTINGS, tmp_path / "alone").md5
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")]
    assert len(left) == 2  # what a killed process cannot clear away itself
    before = dict(computed)
    with Cache(tmp_path / "as left") as cache:
        prepare(TASK, raw, SETTINGS, tmp_path / "resumed", cache=cache)
    assert computed == before  # nothing is computed where nothing changed, and no fingerprint is read


def test_two_preparations_may_use_one_cache_at_once(raw, tmp_path):
    command = [sys.executable, "-m", "derm_ml.cli", "prepare", TASK.name, "--no-checks", "--raw", str(raw), "--out"]
    environment = os.environ | {"DERM_DATA": str(tmp_path / "data"), "DERM_OUT": str(tmp_path / "o")}
    running = [
        subprocess.Popen([*command, str(tmp_path / f"out{n}")], env=environment, stdout=subprocess.DEVNULL, stderr=-1)
        for n in range(2)
    ]
    assert [(p.communicate()[1][-500:], p.returncode)[1] for p in running] == [0, 0]
    assert Dataset.open(tmp_path / "out0").md5 == Dataset.open(tmp_path / "out1").md5
    assert (tmp_path / "data" / "cache" / f"{TASK.name}.sqlite").exists()
    fresh = subprocess.run(
        [*command, str(tmp_path / "out0"), "--fresh"], env=environment, capture_output=True, check=False
    )
    assert fresh.returncode == 0
    assert Dataset.open(tmp_path / "out0").md5 == Dataset.open(tmp_path / "out1").md5
