"""Torchvision backbones by name, without their heads.

`backbone("mobilenet_v2", pretrained)` → a module (N, 3, H, W) float, ImageNet-normalised → (N, C, h, w), and C.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from derm_ml import DermError
from derm_ml.files import sha256
from derm_ml.nets import alexnet
from derm_ml.sentences import WrongValue, unknown

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# families whose last maps are pooled and then meet a head: what Grad-CAM in the forward pass relies on
FAMILIES = (
    "resnet",
    "resnext",
    "wide_resnet",
    "mobilenet",
    "mnasnet",
    "efficientnet",
    "densenet",
    "regnet",
    "squeezenet",
)


class PretrainedError(DermError, RuntimeError):
    """Pretrained weights could not be had; the message says how to supply a file."""


def backbone(name: str, pretrained: str = "torchvision") -> tuple[nn.Module, int]:
    """The feature extractor of a torchvision classification model and its number of output channels.

    `pretrained` is `none`, `torchvision` (its best official weights, downloaded once) or the path of a
    .safetensors file: a state dict of the whole torchvision model, or the weights of a bundle with this backbone
    (training goes on from what that model, or its first member, learnt on other data).
    Raises `ValueError` for an unknown name, `PretrainedError` if the weights are not to be had.
    """
    if name == alexnet.NAME:
        if pretrained != "none":
            raise PretrainedError(f"{name} has no published weights: set pretrained=none")
        return alexnet.alexnet_features(), 256
    if not name.startswith(FAMILIES) or name not in torchvision.models.list_models(torchvision.models):
        known = [n for n in torchvision.models.list_models(torchvision.models) if n.startswith(FAMILIES)]
        raise WrongValue(unknown("backbone", name, known, "known are"))
    features = _with_weights(name, pretrained)
    features.eval()
    with torch.no_grad():
        channels = features(torch.zeros(1, 3, 64, 64)).shape[1]
    features.train()
    return features, channels


def describe_weights(pretrained: str) -> str:
    """What stands in a bundle card: `none`, `torchvision`, or name and sha256 of the file."""
    if pretrained in ("none", "torchvision"):
        return pretrained
    path = Path(pretrained)
    return f"file:{path.name} sha256:{sha256(path)}"


def _with_weights(name: str, pretrained: str) -> nn.Module:
    if pretrained == "none":
        return _features(torchvision.models.get_model(name, weights=None))
    if pretrained == "torchvision":
        try:
            return _features(torchvision.models.get_model(name, weights="DEFAULT"))
        except (URLError, OSError) as error:
            raise PretrainedError(
                f"the pretrained weights of {name} could not be downloaded ({error}). Without internet, put a "
                f".safetensors file of torchvision's {name} on this machine and set `pretrained` to its path "
                f"(command line: --set pretrained=PATH), or train from scratch with `pretrained=none`."
            ) from error
    path = Path(pretrained)
    if not path.is_file():
        raise PretrainedError(
            f"pretrained={pretrained}: there is no such file; use 'none', 'torchvision' or a .safetensors path"
        )
    model = torchvision.models.get_model(name, weights=None)
    features = _features(model)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise PretrainedError(f"{path} is no .safetensors file or is damaged ({error}): get it again") from error
    state = {key.removeprefix("members.0."): value for key, value in stored.items()}
    from_bundle = any(key.startswith("head.") for key in state)
    if from_bundle:
        state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    missing, unexpected = (features if from_bundle else model).load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise PretrainedError(
            f"{path} does not hold the weights of {name}: missing {missing[:3]}, unexpected {list(unexpected)[:3]}"
        )
    return features


def _features(model: Any) -> nn.Module:
    if hasattr(model, "layer4"):  # ResNet, ResNeXt, Wide ResNet: all but pooling and the classifier
        return nn.Sequential(*list(model.children())[:-2])
    if hasattr(model, "trunk_output"):  # RegNet
        return nn.Sequential(model.stem, model.trunk_output)
    if hasattr(model, "layers"):  # MNASNet
        return model.layers
    if type(model).__name__ == "DenseNet":  # its forward applies this ReLU between features and pooling
        return nn.Sequential(model.features, nn.ReLU())
    return model.features
