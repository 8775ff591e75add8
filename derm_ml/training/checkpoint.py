"""One checkpoint is one .safetensors file: tensors as tensors, the rest as JSON in its header. No pickle.

It is written to a temporary file, synced and renamed, at the end of an epoch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from derm_ml import DermError
from derm_ml.files import replacing_file

TENSOR = "@tensor"  # a mark in the JSON tree where a tensor was taken out


class CheckpointError(DermError, RuntimeError):
    """A checkpoint belongs to another run or is damaged."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a nested dict / list of tensors and JSON values."""
    tensors: dict[str, torch.Tensor] = {}
    tree = _take_tensors(state, "", tensors)
    with replacing_file(path) as temporary:
        save_file(tensors, temporary, metadata={"tree": json.dumps(tree, allow_nan=False)})


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state saved at `path`, or None if there is none. `identity` must equal `state["identity"]`.

    Raises `CheckpointError` naming the file when it is another run's.
    """
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        tree = json.loads(file.metadata()["tree"])
        state = _put_tensors(tree, "", file)
    if state["identity"] != identity:
        raise CheckpointError(f"{path} is of a run with other settings or data; choose another folder or remove it")
    return state


def _take_tensors(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return TENSOR
    if isinstance(value, dict):  # keys of optimizer states are integers: JSON has only strings
        return {f"{type(k).__name__[0]}{k}": _take_tensors(v, f"{name}/{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _put_tensors(tree: Any, name: str, file: Any) -> Any:
    if tree == TENSOR:
        return file.get_tensor(name).clone()  # not a view of the file: training goes on to write into it
    if isinstance(tree, dict):
        keys = {k: int(k[1:]) if k[0] == "i" else k[1:] for k in tree}
        return {keys[k]: _put_tensors(v, f"{name}/{keys[k]}", file) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_put_tensors(v, f"{name}/{i}", file) for i, v in enumerate(tree)]
    return tree
