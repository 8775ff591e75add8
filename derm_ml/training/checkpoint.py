"""One checkpoint is one .safetensors file: tensors as tensors, the rest as JSON in its header. No pickle.

    save_checkpoint(path, state)      at the end of an epoch: temporary file, sync, rename
    with CheckpointWriter(path) as writer: writer.save(state)      the same beside the training, one at a time
    load_checkpoint(path, identity)   the state of the last epoch, or of the one before if that file is damaged

The header holds the sha256 of everything else, so a byte that changed on the disk is noticed. The checkpoint before
the last is kept beside it, `checkpoint.previous.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from derm_ml import DermError, formats
from derm_ml.files import replacing_file

TENSOR = "@tensor"  # a mark in the JSON tree where a tensor was taken out
_log = logging.getLogger(__name__)


class CheckpointError(DermError, RuntimeError):
    """A checkpoint belongs to another run or is damaged."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint was written by another version: it is not damaged, and the one before it is no substitute."""


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a nested dict / list of tensors and JSON values; what stood at `path` becomes the previous checkpoint.

    Raises `WriteError` where there is no room; both checkpoints are then as they were.
    """
    _write(path, *_snapshot(state))


class CheckpointWriter:
    """Writes the checkpoints of one training while it goes on: at most one is on its way to the disk.

    What `save` was given may change at once: it is copied first. A checkpoint that could not be written raises its
    `WriteError` at the next `save`, or at the end of the block.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Begin to write, after the one before is on the disk."""
        snapshot = _snapshot(state)
        self._wait()
        self._writing = self._thread.submit(_write, self.path, *snapshot)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()
        elif self._writing and (unwritten := self._writing.exception()):
            _log.warning("%s", unwritten)  # beside the error that ends the training


def _snapshot(state: dict[str, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    """The state as JSON and copies of its tensors on the CPU."""
    tensors: dict[str, torch.Tensor] = {}
    return json.dumps(_take_tensors(state, "", tensors), allow_nan=False), tensors


def _write(path: Path, tree: str, tensors: dict[str, torch.Tensor]) -> None:
    version = str(formats.CHECKPOINT.version)
    with replacing_file(path) as temporary:
        save_file(
            tensors,
            temporary,
            metadata={formats.VERSION: version, "tree": tree, "sha256": _digest(version, tree, tensors)},
        )
        if path.exists():
            path.replace(previous_of(path))


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state saved at `path`, or None if there is none. `identity` must equal `state["identity"]`.

    A damaged checkpoint gives way to the previous one, and a warning says so. Raises `CheckpointError` naming the file
    when it is another run's or another version's, or when both are damaged.
    """
    earlier = previous_of(path)
    if not path.exists() and not earlier.exists():
        return None
    try:
        state = _read(path)
    except CheckpointVersionError:
        raise
    except (FileNotFoundError, CheckpointError) as error:
        state = _instead(path, earlier, error)
    if state["identity"] != identity:
        raise CheckpointError(f"{path} is of a run with other settings or data; choose another folder or remove it")
    return state


def _instead(path: Path, earlier: Path, error: Exception) -> dict[str, Any]:
    """The previous checkpoint, which takes the place of a damaged one, or of one a crash kept from its place."""
    if not earlier.exists():
        raise CheckpointError(f"{error}; remove it, and training begins anew") from error
    try:
        state = _read(earlier)
    except CheckpointError as worse:
        raise CheckpointError(f"{error}, and so is {earlier.name}; remove both, and training begins anew") from worse
    earlier.replace(path)
    said = f"{error}; " if isinstance(error, CheckpointError) else ""
    _log.warning("%straining goes on from the checkpoint before it, after epoch %d", said, len(state["history"]))
    return state


def _read(path: Path) -> dict[str, Any]:
    """The state of one file. Raises `CheckpointError` where its bytes are not those that were written."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, ValueError) as error:  # ValueError: a dtype that torch does not know
        raise CheckpointError(f"{path} is damaged ({str(error) or 'it cannot be read'})") from error
    tree, version = header.get("tree", ""), header.get(formats.VERSION)
    if "sha256" not in header:
        raise CheckpointError(f"{path} is damaged or of an earlier version (it holds no sha256)")
    if header["sha256"] != _digest(version or "", tree, tensors):  # the same in every version
        raise CheckpointError(f"{path} is damaged (its sha256 is not the one it was saved with)")
    formats.CHECKPOINT.check_text(version, path, CheckpointVersionError)
    return _put_tensors(json.loads(tree), "", tensors)


def _digest(version: str, tree: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 of version and JSON and of name, dtype, shape and bytes of every tensor."""
    digest = hashlib.sha256((version + tree).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _take_tensors(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return TENSOR
    if isinstance(value, dict):  # keys of optimizer states are integers: JSON has only strings
        return {f"{type(k).__name__[0]}{k}": _take_tensors(v, f"{name}/{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _put_tensors(tree: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    if tree == TENSOR:
        return tensors[name]
    if isinstance(tree, dict):
        keys = {k: int(k[1:]) if k[0] == "i" else k[1:] for k in tree}
        return {keys[k]: _put_tensors(v, f"{name}/{keys[k]}", tensors) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_put_tensors(v, f"{name}/{i}", tensors) for i, v in enumerate(tree)]
    return tree
