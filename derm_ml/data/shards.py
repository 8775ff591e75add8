"""Tar shards of a dataset: written once, and never again for the same images.

    writer = ShardWriter(folder / "shards", earlier / "shards", bytes_of)
    row = writer.add(sample, files, part=0)         where each file lies: columns of the manifest
    writer.close()

Owners and times are fixed, so the same images make the same bytes. A shard ends with a delivery (`part`), so the next
delivery only adds shards. Within one it ends, once half full, behind an image that its own id chooses: an image that is
put among the others changes the shard it falls into, and the next ones find their old ends again. A shard that an
earlier dataset has is compared with what would be written, by the hash of every file in it, and linked.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from derm_ml.data.decoded import Stored
from derm_ml.records import DELIVERIES, Sample

SHARD_BYTES = 256 * 2**20  # large enough to read fast, small enough to move and to re-verify
_END_WITHIN = 8  # an end is found, on average, within this part of SHARD_BYTES


@dataclass(frozen=True, slots=True)
class _Entry:
    sample: Sample
    role: str
    header: bytes
    stored: Stored


class ShardWriter:
    """Appends the files of samples to shards, and remembers where each lies. Holds no more than one sample's bytes."""

    def __init__(self, folder: Path, earlier: Path, bytes_of: Callable[[Sample, str, Stored], bytes]) -> None:
        """`earlier`: the shards of an earlier dataset, if there are any. `bytes_of`: of what was not decoded now."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.sizes: dict[str, int] = {}
        self._earlier, self._bytes_of = earlier, bytes_of
        self._part: int | None = None
        self._position = 0
        self._waiting: list[_Entry] = []  # of the open shard, as long as each of its files was known before
        self._file: IO[bytes] | None = None

    def add(self, sample: Sample, files: Mapping[str, Stored], part: int = 0) -> dict[str, Any]:
        """The next sample; parts come in order, and none shares a shard with another."""
        entries = [self._entry(sample, role, stored) for role, stored in files.items()]
        size = sum(len(entry.header) + _padded(entry.stored.size) for entry in entries)
        if self._position and (part != self._part or self._position + size > SHARD_BYTES):
            self.close()
        self._part = part
        row: dict[str, Any] = {}
        for entry in entries:
            role, stored = entry.role, entry.stored
            row |= {
                f"{role}.shard": self._name,
                f"{role}.offset": self._position + len(entry.header),
                f"{role}.size": stored.size,
                f"{role}.sha256": stored.sha256,
                f"{role}.height": stored.height,
                f"{role}.width": stored.width,
            }
            if stored.area is not None:
                row[f"{role}.area"] = stored.area
            self._append(entry)
        if self._position >= SHARD_BYTES // 2 and _chosen(sample.id) < size * _END_WITHIN / SHARD_BYTES:
            self.close()
        return row

    def close(self) -> None:
        """End the open shard, if there is one."""
        if not self._position:
            return
        path = self.folder / self._name
        end = -(-(self._position + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        if self._file is None and (same := self._known(end)):
            os.link(same, path)
        else:
            file = self._opened()
            file.write(bytes(end - self._position))
            file.close()
        self.sizes[path.name] = path.stat().st_size
        self._file, self._position, self._waiting = None, 0, []

    @property
    def _name(self) -> str:
        return f"{len(self.sizes):05d}.tar"

    def _entry(self, sample: Sample, role: str, stored: Stored) -> _Entry:
        info = tarfile.TarInfo(f"{sample.id}.{role}.{stored.suffix}")
        info.size = stored.size
        # as USTAR byte for byte, until a name has more than 100 bytes or letters beyond ASCII
        return _Entry(sample, role, info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"), stored)

    def _append(self, entry: _Entry) -> None:
        self._position += len(entry.header) + _padded(entry.stored.size)
        if entry.stored.data is None and self._file is None:
            self._waiting.append(entry)
        else:
            self._write(self._opened(), entry)

    def _opened(self) -> IO[bytes]:
        """The file of the open shard, with what waited in it."""
        if self._file is None:
            self._file = (self.folder / self._name).open("wb")
            for entry in self._waiting:
                self._write(self._file, entry)
            self._waiting = []
        return self._file

    def _write(self, file: IO[bytes], entry: _Entry) -> None:
        stored = entry.stored
        data = stored.data if stored.data is not None else self._bytes_of(entry.sample, entry.role, stored)
        file.write(entry.header)
        file.write(data)
        file.write(bytes(_padded(stored.size) - stored.size))

    def _known(self, end: int) -> Path | None:
        """A shard of the earlier dataset that is, to the byte, the one that would be written."""
        if not self._earlier.is_dir():
            return None
        paths = sorted(self._earlier.iterdir(), key=lambda path: (path.name != self._name, path.name))
        alike = (Path(os.path.realpath(path)) for path in paths if path.is_file() and path.stat().st_size == end)
        found = next((path for path in alike if _holds(path, self._waiting)), None)
        same_disk = found and found.stat().st_dev == self.folder.stat().st_dev
        return found if same_disk else None


class EarlierFiles:
    """The files in the shards of an earlier dataset, by their sha256; none where it cannot be read."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._places: dict[str, tuple[str, int, int]] | None = None

    def get(self, sha256: str) -> bytes | None:
        """The bytes with that hash, or None where they are not there or damaged."""
        if self._places is None:
            self._places = self._listed()
        if (place := self._places.get(sha256)) is None:
            return None
        name, offset, size = place
        try:
            with (self._dataset / "shards" / name).open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def _listed(self) -> dict[str, tuple[str, int, int]]:
        from pyarrow import ArrowException, parquet

        try:
            table = parquet.read_table(self._dataset / "manifest.parquet")
        except (OSError, ValueError, ArrowException):  # then its files are decoded again
            return {}
        places: dict[str, tuple[str, int, int]] = {}
        for role in (name.removesuffix(".sha256") for name in table.column_names if name.endswith(".sha256")):
            columns = [table[f"{role}.{what}"].to_pylist() for what in ("sha256", "shard", "offset", "size")]
            places |= {
                digest: (shard, int(offset), int(size))
                for digest, shard, offset, size in zip(*columns, strict=True)
                if digest
            }
        return places


def part_of(sample: Sample, numbers: Mapping[str, int]) -> int:
    """0 for the images a task was set up with, else the number of the delivery that brought it (folder → number)."""
    return numbers.get("/".join(sample.source.split("/")[:2]), 1) if sample.source.startswith(f"{DELIVERIES}/") else 0


def _holds(path: Path, entries: list[_Entry]) -> bool:
    """Whether a file of the right size is the shard of these entries."""
    with path.open("rb") as file:
        for entry in entries:
            if file.read(len(entry.header)) != entry.header:
                return False
            data = file.read(entry.stored.size)
            if hashlib.sha256(data).hexdigest() != entry.stored.sha256:
                return False
            if any(file.read(_padded(entry.stored.size) - entry.stored.size)):
                return False
        return not any(file.read())  # the end: at most 10 kB


def _chosen(name: str) -> float:
    """A number in [0, 1) that is the name's own."""
    return int(hashlib.sha256(f"shard {name}".encode()).hexdigest()[:12], 16) / 16**12


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
