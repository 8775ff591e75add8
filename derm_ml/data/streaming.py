"""Datasets whose shards stay in DVC's remote: only what is read of them is fetched, and a part of it kept.

    bring_without_shards(md5, folder)        manifest, dataset.json and lists, and DVC's own list of all files
    Dataset.open(folder).image(row)          fetches the block of 8 MiB the image lies in, or the image alone

DVC's remote keeps a file by its md5, so the version of a dataset says where each of its shards lies. A block is kept by
the md5 of its shard, for every version that has the shard. Where most of a block belongs to the split of the image that
is asked for, the next images are in it too, and the block is fetched; else the few are fetched one by one and not kept,
unless all shards fit into the cache. Every image is compared with the sha256 of the manifest before anything sees it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from derm_ml.data.block_cache import BlockCache
from derm_ml.files import replacing_folder
from derm_ml.places import DVC_REMOTE, STREAM, SettingsError, installation
from derm_ml.records import DataError
from derm_ml.shared import SharedPlace, SharedPlaceError
from derm_ml.tree import md5_of_list, md5s_below

LISTED = "files.dir.json"  # DVC's list of all files of the dataset, as it lies in the remote; only where shards do not
SHARDS = "shards/"
BLOCK = 8 * 2**20  # what S3's guide for performance names for range requests: 8 or 16 MB
_WHOLE = 0.5  # share of a block that a split must have for all of it to be fetched
_WAITS = (0.5, 2.0, 8.0)  # seconds before a request is repeated
_GB = 10**9


@dataclass(frozen=True, slots=True)
class Remote:
    """DVC's remote by its address."""

    address: str

    def where(self, md5: str) -> str:
        """The address of the file of that md5."""
        return f"{self.address}/{_object(md5)}"

    def read(self, md5: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file, or its bytes from `start` to before `end`; a request that fails is repeated three times.

        Raises `DataError` naming the object where it is missing or the remote cannot be reached.
        """
        for wait in (*_WAITS, None):
            try:
                # a connection does not outlive a fork
                found = _opened(self.address, os.getpid()).read(_object(md5), start, end)
            except SharedPlaceError as error:
                if wait is None or not _passes(error.__cause__):
                    raise DataError(f"{self.where(md5)} cannot be read: {error}") from error
                time.sleep(wait)
            else:
                if found is None:
                    raise DataError(f"{self.where(md5)} is missing: {_PUSH}")
                return found
        raise AssertionError

    def file(self, md5: str) -> bytes:
        """A whole file, compared with its md5. Raises `DataError` as `read` does, and where it has another one."""
        data = self.read(md5)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            raise DataError(f"{self.where(md5)} is damaged: remove it there and {_PUSH}")
        return data


@dataclass(frozen=True, eq=False)
class StreamedShards:
    """(name, offset, size) → the bytes of a stored file, as `LocalShards` gives them; cheap to send to a worker.

    The stored files stand in the order of shard and offset.
    """

    remote: Remote
    cache: BlockCache
    md5s: Mapping[str, str]  # of each shard
    sizes: Mapping[str, int]  # bytes
    within: Mapping[str, tuple[int, int]]  # which of the stored files each shard holds
    offset: np.ndarray  # (N,) bytes
    ids: np.ndarray  # (N,) str
    sha256: np.ndarray  # (N, 32) uint8
    whole: np.ndarray  # (N,) bool: whether its block is worth fetching
    block: int = BLOCK

    def __call__(self, shard: str, offset: int, size: int) -> bytes:
        """Raises `DataError` naming image and object where the object is missing or damaged."""
        first, end = self.within[shard]
        place = first + int(np.searchsorted(self.offset[first:end], offset))
        try:
            for _ in range(2):
                data = self._read(shard, offset, size, bool(self.whole[place]))
                if hashlib.sha256(data).digest() == self.sha256[place].tobytes():
                    return data
                for start, last in self._blocks(shard, offset, size):  # it may have been damaged here
                    self.cache.drop(self._name(shard, start, last))
            raise DataError(f"{self.where(shard)} is damaged: remove it there and {_PUSH}")
        except DataError as error:
            raise DataError(f"image {self.ids[place]} of {SHARDS}{shard}: {error}") from error

    def where(self, shard: str) -> str:
        return self.remote.where(self.md5s[shard])

    def block_of(self, shard: str, offset: int) -> str:
        """Names the block a stored file begins in; empty where it would be fetched alone."""
        first, end = self.within[shard]
        if not self.whole[first + int(np.searchsorted(self.offset[first:end], offset))]:
            return ""
        return self._name(shard, *self._blocks(shard, offset, 1)[0])

    def fetch(self, shard: str, offset: int) -> None:
        """Bring the block a stored file begins in into the cache. Raises `DataError` as reading does."""
        block = self._blocks(shard, offset, 1)[0]
        self._part(shard, block, *block, whole=True)

    def room(self, shards: int) -> int:
        """How many shards the cache holds beside so many others, the largest taken for all; all where all fit."""
        if sum(self.sizes.values()) <= self.cache.limit:
            return len(self.sizes)
        return max(0, self.cache.limit // max(self.sizes.values()) - shards)

    def _read(self, shard: str, offset: int, size: int, whole: bool) -> bytes:
        parts = [
            self._part(shard, block, max(offset, block[0]), min(offset + size, block[1]), whole)
            for block in self._blocks(shard, offset, size)
        ]
        return b"".join(parts)

    def _part(self, shard: str, block: tuple[int, int], start: int, end: int, whole: bool) -> bytes:
        """The bytes from `start` to before `end`, which lie in one block."""
        name, within = self._name(shard, *block), start - block[0]
        kept = self.cache.read(name, within, end - start)
        if kept is not None:
            return kept
        if not whole:
            return self.remote.read(self.md5s[shard], start, end)
        with self.cache.alone(name):
            kept = self.cache.read(name, within, end - start)  # another one may have brought it meanwhile
            if kept is not None:
                return kept
            data = self.remote.read(self.md5s[shard], *block)
            self.cache.keep(name, data)
        return data[within : within + end - start]

    def _blocks(self, shard: str, offset: int, size: int) -> list[tuple[int, int]]:
        """(start, end) in bytes of the blocks a stored file lies in."""
        begins = range(offset - offset % self.block, offset + size, self.block)
        return [(begin, min(begin + self.block, self.sizes[shard])) for begin in begins]

    def _name(self, shard: str, start: int, end: int) -> str:
        return f"{self.md5s[shard]}-{start}-{end}"


def stream_limit() -> int | None:
    """How many bytes of streamed shards are kept; None where datasets are brought whole.

    Raises `SettingsError` for what is no number above 0.
    """
    given = os.environ.get(STREAM, "").strip()
    if not given:
        return None
    try:
        limit = int(float(given) * _GB)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise SettingsError(f"{STREAM} is '{given[:20]}': write how many GB are kept, such as 20")
    return limit


def bring_without_shards(md5: str, folder: Path) -> None:
    """Bring all of a dataset but its shards into `folder`. Raises `DataError` naming what is missing or damaged."""
    remote = _remote()
    listed = remote.file(md5)
    with replacing_folder(folder) as temporary:
        (temporary / LISTED).write_bytes(listed)
        for name, digest in _files(temporary).items():
            if not name.startswith(SHARDS):
                (temporary / name).write_bytes(remote.file(digest))


def is_streamed(folder: Path) -> bool:
    """Whether the shards of a prepared dataset lie elsewhere."""
    return (folder / LISTED).exists()


def streamed_md5(folder: Path) -> str:
    """The version of a dataset without its shards: of the files that are here, and of the shards in DVC's list."""
    shards = {name: digest for name, digest in _files(folder).items() if name.startswith(SHARDS)}
    here = {name: digest for name, digest in md5s_below(folder).items() if name != LISTED}
    return md5_of_list({**here, **shards})


def streamed_shards(folder: Path, sizes: Mapping[str, int], manifest: pd.DataFrame) -> StreamedShards:
    """The shards of a dataset as its remote has them; `sizes`: bytes by name.

    Raises `DataError` where no remote is set, or no cache for what it gives.
    """
    limit = stream_limit()
    if limit is None:
        raise DataError(f"the shards of {folder} are not here: set {STREAM}, or remove the folder to bring it whole")
    md5s = {name.removeprefix(SHARDS): md5 for name, md5 in _files(folder).items() if name.startswith(SHARDS)}
    if missing := sizes.keys() - md5s.keys():
        raise DataError(f"{folder / LISTED} does not list {SHARDS}{min(missing)}: remove the folder to bring it again")
    stored = _stored_files(manifest)
    shard = stored["shard"].to_numpy(str)
    return StreamedShards(
        _remote(),
        BlockCache(installation().streamed, limit),
        md5s,
        sizes,
        {name: (bisect_left(shard, name), bisect_right(shard, name)) for name in sizes},
        stored["offset"].to_numpy(np.int64),
        stored["id"].to_numpy(str),
        np.frombuffer(bytes.fromhex("".join(stored["sha256"])), np.uint8).reshape(-1, 32),
        _worth_a_block(stored) | (sum(sizes.values()) <= limit),
    )


def _stored_files(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row a stored file: id, split, shard, offset, size, sha256, in the order of shard and offset."""
    roles = [name.removesuffix(".sha256") for name in manifest if name.endswith(".sha256")]
    tables = [
        pd.DataFrame(
            {"id": manifest["id"], "split": manifest["split"]}
            | {name: manifest[f"{role}.{name}"] for name in ("shard", "offset", "size", "sha256")}
        )
        for role in roles
    ]
    return pd.concat(tables).dropna(subset="shard").sort_values(["shard", "offset"], ignore_index=True)


def _worth_a_block(stored: pd.DataFrame) -> np.ndarray:
    """(N,) bool: whether at least half of what lies in a file's block is of its split."""
    block = [stored["shard"], stored["offset"] // BLOCK]
    size = stored["size"]
    of_split, of_all = (size.groupby(by).transform("sum").to_numpy(float) for by in ([*block, stored["split"]], block))
    return of_split >= _WHOLE * of_all


def _files(folder: Path) -> dict[str, str]:
    """Relative path → md5 of DVC's list. Raises `DataError` for a damaged one, or one that leads elsewhere."""
    path = folder / LISTED
    try:
        found = {str(part["relpath"]): str(part["md5"]) for part in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is missing or damaged ({error}): remove the folder to bring it again") from error
    for name in found:
        if PurePosixPath(name.removeprefix(SHARDS)).name != name.removeprefix(SHARDS):
            raise DataError(f"{path} lists '{name}', which is no file of a prepared dataset")
    return found


def _remote() -> Remote:
    """The remote of the setting, a folder as DVC takes it. Raises `DataError` where none is set."""
    given = os.environ.get(DVC_REMOTE, "").strip().rstrip("/")
    if not given:
        raise DataError(f"no remote is set that has the shards: set {DVC_REMOTE}")
    return Remote(given if "://" in given else str(installation().dvc_project / Path(given).expanduser()))


@lru_cache(maxsize=4)
def _opened(address: str, process: int) -> SharedPlace:
    return SharedPlace(address, DVC_REMOTE)


def _passes(fault: BaseException | None) -> bool:
    """Whether asking again may help: not for a library that is missing, a right, or an object that is too short."""
    lasting = isinstance(fault, PermissionError) or getattr(fault, "errno", None) == errno.EINVAL
    return fault is not None and not lasting


def _object(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"


_PUSH = "run `dvc push` on the machine that prepared the dataset"
