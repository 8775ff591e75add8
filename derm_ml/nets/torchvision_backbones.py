"""Torchvision's classification models as backbones, and AlexNet as it is in the papers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from derm_ml.nets import alexnet
from derm_ml.nets.pretrained import PretrainedError, stored

NAME = "torchvision"
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as all weights of torchvision want it
STD = (0.229, 0.224, 0.225)
PROBED = 128  # pixels of the square that finds the levels: divisible by every stride there is
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
Colour = tuple[float, float, float]


def knows(name: str) -> bool:
    return name in names()


def names() -> list[str]:
    models = torchvision.models.list_models(torchvision.models)
    return [alexnet.NAME, *(name for name in models if name.startswith(FAMILIES))]


def features(name: str, source: str | dict[str, Tensor] | Path) -> tuple[nn.Module, int, Colour, Colour]:
    """Feature extractor, channels, mean and std; `source` as `backbones` resolved it."""
    if name == alexnet.NAME:
        if source != "none":
            raise PretrainedError(f"{name} has no published weights: set pretrained=none")
        return alexnet.alexnet_features(), 256, MEAN, STD
    found = _with_weights(name, source)
    found.eval()
    with torch.no_grad():
        channels = found(torch.zeros(1, 3, 64, 64)).shape[1]
    found.train()
    return found, channels, MEAN, STD


def pyramid(name: str, source: str | dict[str, Tensor] | Path) -> tuple[nn.Module, tuple[int, ...], Colour, Colour]:
    """Feature extractor with its maps just before each halving, their channels, mean and std."""
    found = Levels(features(name, source)[0])
    return found, found.channels, MEAN, STD


class Levels(nn.Module):
    """A backbone that also gives its maps before each halving: (N, 3, H, W) → levels, the finest first.

    `channels` are the maps of each level; the first level has stride 2.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.ends, self.channels = _levels(features)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for place, step in enumerate(_steps(self.features)):
            x = step(x)
            if place in self.ends:
                found.append(x)
        return found


def _steps(features: nn.Module) -> Iterator[nn.Module]:
    """The modules an image passes one after the other: containers are opened, blocks are not."""
    if isinstance(features, nn.Sequential):
        for inner in features:
            yield from _steps(inner)
    else:
        yield features


@torch.no_grad()
def _levels(features: nn.Module) -> tuple[frozenset[int], tuple[int, ...]]:
    """Places of the steps after which the maps get smaller (and of the last step), and how many maps there are."""
    training = features.training
    features.eval()  # batch statistics must not learn from an empty image
    x = torch.zeros(1, 3, PROBED, PROBED)
    shapes = []
    for step in _steps(features):
        x = step(x)
        shapes.append((x.shape[2], x.shape[1]))
    features.train(training)
    ends = [i for i, (size, _) in enumerate(shapes) if i + 1 == len(shapes) or shapes[i + 1][0] < size]
    return frozenset(ends), tuple(shapes[i][1] for i in ends)


def _with_weights(name: str, source: str | dict[str, Tensor] | Path) -> nn.Module:
    if source == "none":
        return _features(torchvision.models.get_model(name, weights=None))
    if source == NAME:
        try:
            return _features(torchvision.models.get_model(name, weights="DEFAULT"))
        except (URLError, OSError) as error:
            raise PretrainedError(
                f"the pretrained weights of {name} could not be downloaded ({error}). Without internet, put a "
                f".safetensors file of torchvision's {name} on this machine and set `pretrained` to its path "
                f"(command line: --set pretrained=PATH), or train from scratch with `pretrained=none`."
            ) from error
    assert isinstance(source, Path)
    model = torchvision.models.get_model(name, weights=None)
    found = _features(model)
    state, from_bundle = stored(source)
    missing, unexpected = (found if from_bundle else model).load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise PretrainedError(
            f"{source} does not hold the weights of {name}: missing {missing[:3]}, unexpected {list(unexpected)[:3]}"
        )
    return found


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
