"""A place that every machine of an installation reaches: a bucket or a folder, by the address in `DERM_SHARED`.

shared = shared_place()                                   None where no such place is set
contents = shared.send(folder, ["bundle", "history.json"])       a hash that names those files
shared.fetch(contents, folder)                            the same files on another machine, each compared with its hash

Any address fsspec knows: `s3://bucket/derm`, `gs://…`, `az://…`, or a folder of a common disk. What lies there is
never overwritten, but for the notes by which a lock is held. Files are kept by their sha256, so what two models have in
common is kept once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from derm_ml import DermError, formats
from derm_ml.files import replacing_file, replacing_folder, sha256
from derm_ml.places import PROJECT, SHARED

_OBJECTS, _CONTENTS, _ONCE = "objects", "contents", "written-once"
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure", "abfs": "azure"}
# what the libraries behind fsspec raise that is no OSError: they are asked for only where they are in use
_FAULTS = {
    "botocore.exceptions": "BotoCoreError",
    "aiohttp": "ClientError",
    "google.auth.exceptions": "GoogleAuthError",
    "gcsfs.retry": "HttpError",
    "azure.core.exceptions": "AzureError",
}


class SharedPlaceError(DermError, RuntimeError):
    """The shared place cannot be used, or what lies there is not what was sent."""


def shared_place() -> SharedPlace | None:
    """The place `DERM_SHARED` names; None where it is empty."""
    address = os.environ.get(SHARED, "").strip().rstrip("/")
    return SharedPlace(address) if address else None


@dataclass(frozen=True)
class SharedPlace:
    """A bucket or folder by its address. Raises `SharedPlaceError` where it cannot be reached."""

    address: str
    setting: str = SHARED  # which names it

    def below(self, name: str) -> SharedPlace:
        """A part of it."""
        return SharedPlace(f"{self.address}/{name}", self.setting)

    def create(self, name: str, data: bytes) -> bool:
        """Write what is not there yet, whole or not at all; False where something is. Of two who try, one succeeds."""
        with self._reaching():
            try:
                if self._is_folder:
                    _linked(Path(self._path(name)), data)
                else:
                    self._system.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def require_written_once(self) -> None:
        """Raise `SharedPlaceError` for a store that writes over what is there, for it can keep no ledger."""
        self.create(_ONCE, b"this file is written once")
        if self.create(_ONCE, b""):
            raise SharedPlaceError(
                f"{self.address} wrote over a file that was to be written once, so two machines could overwrite each "
                "other's decisions: take a store that honours conditional writes, or a newer version of its library"
            )

    def note(self, name: str, data: bytes) -> None:
        """Write over what is there."""
        with self._reaching():
            self._system.pipe_file(self._path(name), data)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """What lies there, or its bytes from `start` to before `end`; None for nothing."""
        with self._reaching():
            try:
                return bytes(self._system.cat_file(self._path(name), start=start, end=end))
            except FileNotFoundError:
                return None

    def read_all(self, names: Iterable[str]) -> list[bytes]:
        """What lies under several names, asked for together; what has gone meanwhile is left out."""
        paths = [self._path(name) for name in names]
        if not paths:
            return []
        with self._reaching():
            found = self._system.cat(paths, on_error="return")
            for value in found.values():
                if isinstance(value, Exception) and not isinstance(value, FileNotFoundError):
                    raise value
        return [found[path] for path in paths if isinstance(found.get(path), bytes)]

    def names(self, folder: str = "") -> list[str]:
        """The names in a folder, sorted."""
        with self._reaching():
            self._system.invalidate_cache()  # another machine may have written
            try:
                listed = self._system.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        names = (path.rstrip("/").rpartition("/")[2] for path in listed)
        return sorted(name for name in names if name and not name.startswith("."))

    def remove(self, name: str) -> None:
        """Remove what lies there, if anything does."""
        with self._reaching():
            try:
                self._system.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def send(self, folder: Path, parts: Iterable[str]) -> str:
        """Keep files and folders of `folder`; the hash that names them. What is there already is not sent again."""
        listed = _files(folder, parts)
        for name, digest in listed.items():
            if not self._has(digest):
                self.create(f"{_OBJECTS}/{digest}", (folder / name).read_bytes())
        text = json.dumps(formats.SHARED_CONTENTS.stamped({"files": listed}), sort_keys=True).encode()
        contents = hashlib.sha256(text).hexdigest()
        self.create(f"{_CONTENTS}/{contents}.json", text)
        return contents

    def fetch(self, contents: str, folder: Path) -> None:
        """Bring the files that a hash names into `folder`: what is there and the same stays, what differs is replaced.

        Raises `SharedPlaceError` naming the object and the file where one is missing or has another content; then
        nothing of its part of the folder was changed.
        """
        parts: dict[str, dict[str, str]] = {}
        for name, digest in self._listed(contents).items():
            parts.setdefault(name.partition("/")[0], {})[name] = digest
        for part, files in parts.items():
            if (folder / part).exists() and _files(folder, [part]) == files:
                continue
            if part in files:
                with replacing_file(folder / part) as temporary:
                    temporary.write_bytes(self._object(files[part], part))
                continue
            with replacing_folder(folder / part) as temporary:
                for name, digest in files.items():
                    target = temporary / name.partition("/")[2]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(self._object(digest, name))

    def _listed(self, contents: str) -> dict[str, str]:
        name = f"{_CONTENTS}/{contents}.json"
        found, listed = self.read(name), {}
        with suppress(ValueError):  # of a newer version it says so, whatever its hash
            listed = formats.SHARED_CONTENTS.read(
                json.loads(found or b"{}"), f"{self.address}/{name}", SharedPlaceError
            )
        if found is None or hashlib.sha256(found).hexdigest() != contents:
            raise SharedPlaceError(
                f"{self.address}/{name} is {'missing' if found is None else 'damaged'}: remove it there and "
                "materialise again what it lists, on the machine that made it"
            )
        files: dict[str, str] = listed["files"]
        for path in files:  # whoever may write there must not write elsewhere here
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise SharedPlaceError(f"{self.address}/{name} lists '{path}', which lies outside its folder")
        return files

    def _object(self, digest: str, file: str) -> bytes:
        found = self.read(f"{_OBJECTS}/{digest}")
        if found is None or hashlib.sha256(found).hexdigest() != digest:
            raise SharedPlaceError(
                f"{self.address}/{_OBJECTS}/{digest}, the file {file}, is {'missing' if found is None else 'damaged'}: "
                "remove it there and materialise again what it belongs to, on the machine that made it"
            )
        return found

    def _has(self, digest: str) -> bool:
        with self._reaching():
            return bool(self._system.exists(self._path(f"{_OBJECTS}/{digest}")))

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}" if name else self._opened[1]

    @property
    def _is_folder(self) -> bool:
        """Whether it is a folder of a disk, where a file could be seen half written."""
        return "file" in self._system.protocol

    @property
    def _system(self) -> Any:
        return self._opened[0]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system and the path in it."""
        import fsspec  # a library of DVC's; nothing that is served needs it

        address = self.address if "://" in self.address else str(PROJECT / Path(self.address).expanduser())
        try:
            system, path = fsspec.url_to_fs(address, use_listings_cache=False)
        except ImportError:
            scheme = address.partition(":")[0]
            extra = _EXTRAS.get(scheme)
            install = f"pip install 'derm-platform[{extra}]'" if extra else f"install what fsspec needs for {scheme}"
            raise SharedPlaceError(
                f"{self.setting} is {self.address}, but the library for {scheme} is not installed: {install}"
            ) from None
        except ValueError as error:
            raise SharedPlaceError(f"{self.setting} is {self.address}: {error}") from None
        return system, str(path).rstrip("/")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Ask the store inside: what it or the network says becomes one sentence."""
        self._opened  # noqa: B018  # its own sentence
        faults = [getattr(sys.modules[module], name) for module, name in _FAULTS.items() if module in sys.modules]
        try:
            yield
        except (OSError, *faults) as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise SharedPlaceError(
                f"{self.address} cannot be used ({why[0]}): see that {self.setting} names a place that exists, with "
                "keys that may read and write it"
            ) from error


def _linked(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, whole. Raises `FileExistsError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _files(folder: Path, parts: Iterable[str]) -> dict[str, str]:
    """Name below `folder` → sha256, of all files in those parts of it that exist."""
    found: dict[str, str] = {}
    for part in parts:
        whole = folder / part
        for path in [whole] if whole.is_file() else sorted(whole.rglob("*")):
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = sha256(path)
    return dict(sorted(found.items()))
