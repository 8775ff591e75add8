"""What a machine refuses, as one sentence: room on a disk, a place to write, memory.

Libraries say these in many ways (an errno, a text from C++ or Rust, an exception of their own); they are told apart
here and nowhere else.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from derm_ml import DermError

_FULL = {
    errno.ENOSPC: "the disk is full (make room and run it again)",
    errno.EDQUOT: "the disk quota is used up (make room and run it again)",
    errno.EFBIG: "the file would be larger than the system allows (raise the limit, see `ulimit -f`)",
}
_CLOSED = {
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a part of this path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ENOENT: "the folder cannot be made",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an error",
}
# Rust and C++ libraries (safetensors, torch, Arrow) keep the number or the text of the errno in theirs
_FULL_TEXTS = {text: code for code in _FULL for text in (f"os error {code})", f"[errno {code}]", os.strerror(code))} | {
    "file write failed": errno.ENOSPC
}  # torch's own writer does not say why
_MEMORY_TEXTS = (
    "DefaultCPUAllocator",  # torch has no class of its own for the CPU
    "std::bad_alloc",
    "bad allocation",
    "Failed to allocate memory",  # ONNX Runtime
    "Insufficient memory",  # OpenCV
    "can't start new thread",
    "Cannot allocate memory",
    "out of memory",
    "is killed by signal: Killed",  # the system ended a worker of the DataLoader
    "out of shared memory",
    "unable to write to file </torch",  # shared memory again: a batch on its way from a worker
)


class WriteError(DermError, OSError):
    """A file could not be written; what stood there before is as it was."""

    path: Path
    why: str

    @classmethod
    def of(cls, path: Path, why: str) -> WriteError:
        """The sentence for `path`."""
        said = cls(f"{path} cannot be written: {why}; what stood there before is kept")
        said.path, said.why = path, why
        return said


class OutOfMemoryError(DermError, MemoryError):
    """The memory of this machine, or of its GPU, does not hold what was asked; nothing half-made remains."""


@contextmanager
def writing(path: Path, making: bool = False) -> Iterator[None]:
    """Write `path` inside: a disk without room becomes a `WriteError` that names it.

    With `making`, nothing but the file or folder itself is opened or made inside, so every `OSError` is about `path`.
    """
    try:
        yield
    except WriteError as error:
        if path.parent not in error.path.parents or error.path.parent == path.parent:
            raise
        raise WriteError.of(path, error.why) from error  # the file was to go into the temporary folder of `path`
    except DermError:
        raise
    except Exception as error:
        why = _no_room(error)
        if not why and making and isinstance(error, OSError):
            why = _CLOSED.get(error.errno or 0, error.strerror or str(error))
        if not why:
            raise
        raise WriteError.of(path, why) from error


def _no_room(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _FULL:
        return _FULL[error.errno]
    code = next((code for text, code in _FULL_TEXTS.items() if text in str(error)), None)
    return _FULL[code] if code else ""


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Do `what` inside: exhausted memory becomes an `OutOfMemoryError` that says `what` and `remedy`."""
    try:
        yield
    except DermError:
        raise
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in _MEMORY_TEXTS):
            raise
        of = "GPU" if "CUDA" in str(error) else "machine"
        raise OutOfMemoryError(f"the memory of this {of} does not suffice for {what}: {remedy}") from error
