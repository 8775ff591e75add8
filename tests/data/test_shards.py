"""Shards are what a dataset's version is made of: any tool opens them, and the same images never make another."""

from __future__ import annotations

import hashlib
import os
import random
import tarfile
from pathlib import Path

import pytest

from derm_ml.data import shards
from derm_ml.data.decoded import Stored
from derm_ml.data.shards import ShardWriter
from derm_ml.files import sha256
from derm_ml.records import Sample

NAMES = [f"ISIC_{k:05}" for k in range(600)] + ["é, ñ and 漢", "x" * 150, "a folder/b"]


def content_of(name: str) -> bytes:
    return random.Random(name).randbytes(1000 + len(name) % 7)


def written(folder: Path, names: list[str], earlier: Path, known: bool = False, parts: dict[str, int] | None = None):
    """Rows of the manifest by name; `known`: every file was decoded before and its bytes are only asked for."""
    asked: list[str] = []

    def bytes_of(sample: Sample, role: str, stored: Stored) -> bytes:
        asked.append(sample.id)
        return content_of(sample.id)

    writer, rows = ShardWriter(folder / "shards", earlier / "shards", bytes_of), {}
    for name in names:
        data = content_of(name)
        stored = Stored("", hashlib.sha256(data).hexdigest(), len(data), "png", 9, 9, None, None if known else data)
        rows[name] = writer.add(Sample(name, {}), {"image": stored, "mask": stored}, (parts or {}).get(name, 0))
    writer.close()
    return rows, asked


def digests(folder: Path) -> list[str]:
    return [sha256(path) for path in sorted((folder / "shards").iterdir())]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 120_000)


def test_every_file_lies_where_the_manifest_says_and_tar_finds_it(tmp_path):
    rows, _ = written(tmp_path / "a", NAMES, tmp_path)
    found = {}
    for path in sorted((tmp_path / "a" / "shards").iterdir()):
        assert path.stat().st_size <= shards.SHARD_BYTES + tarfile.RECORDSIZE
        with tarfile.open(path) as tar:
            for entry in tar:
                file = tar.extractfile(entry)
                assert file is not None
                found[entry.name] = file.read()
    assert len(found) == 2 * len(NAMES)
    for name, row in rows.items():
        with (tmp_path / "a" / "shards" / row["image.shard"]).open("rb") as file:
            file.seek(row["image.offset"])
            assert file.read(row["image.size"]) == content_of(name) == found[f"{name}.image.png"]


def test_the_bytes_are_those_the_tar_library_writes(tmp_path):
    """As datasets of before were written, whose version must not change."""
    written(tmp_path / "a", NAMES[-20:], tmp_path)
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in NAMES[-20:]:
            for role in ("image", "mask"):
                entry = tarfile.TarInfo(f"{name}.{role}.png")
                entry.size = len(content_of(name))
                (tmp_path / "data").write_bytes(content_of(name))
                with (tmp_path / "data").open("rb") as file:
                    tar.addfile(entry, file)
    assert digests(tmp_path / "a") == [sha256(tmp_path / "b.tar")]


def test_an_image_among_the_others_changes_the_shard_it_falls_into(tmp_path):
    written(tmp_path / "a", NAMES, tmp_path)
    before = digests(tmp_path / "a")
    assert len(before) > 15
    for n, change in enumerate(([*NAMES[:40], "new", *NAMES[40:]], NAMES[:200] + NAMES[201:], ["new", *NAMES])):
        written(tmp_path / f"b{n}", change, tmp_path)
        assert len(set(before) - set(digests(tmp_path / f"b{n}"))) <= 3


def test_a_part_only_adds_shards(tmp_path):
    written(tmp_path / "a", NAMES[:100], tmp_path)
    before = digests(tmp_path / "a")
    written(tmp_path / "b", NAMES[:130], tmp_path, parts=dict.fromkeys(NAMES[100:130], 1))
    assert digests(tmp_path / "b")[: len(before)] == before
    assert len(digests(tmp_path / "b")) > len(before)


def test_shards_that_are_there_are_linked_and_those_that_are_damaged_written(tmp_path):
    first, _ = written(tmp_path / "a", NAMES, tmp_path)
    before = digests(tmp_path / "a")
    second, asked = written(tmp_path / "b", NAMES, tmp_path / "a", known=True)
    assert not asked
    assert second == first
    assert digests(tmp_path / "b") == before
    assert os.stat(tmp_path / "b" / "shards" / "00003.tar").st_nlink == 2
    for place in (0, 700, 5000, -1):
        broken = tmp_path / "a" / "shards" / "00003.tar"
        data = bytearray(broken.read_bytes())
        data[place] ^= 1
        broken.unlink()
        broken.write_bytes(data)
        folder = tmp_path / f"c{place}"
        _, asked = written(folder, NAMES, tmp_path / "a", known=True)
        assert set(asked) == {name for name, row in first.items() if row["image.shard"] == "00003.tar"}
        assert digests(folder) == before
        data[place] ^= 1
        broken.write_bytes(data)
