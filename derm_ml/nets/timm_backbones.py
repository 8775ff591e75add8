"""timm's models as backbones: a thousand encoders, convolutional and transformers, with their own normalisation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from derm_ml.nets.pretrained import PretrainedError, stored
from derm_ml.sentences import WrongValue

NAME = "timm"
HUB = "hf-hub:"
Colour = tuple[float, float, float]
Source = str | dict[str, Tensor] | Path


def knows(name: str) -> bool:
    import timm

    plain = name.removeprefix("timm/")
    return plain.startswith(HUB) or timm.is_model(plain)


def names() -> list[str]:
    import timm

    return timm.list_models()


def features(name: str, source: Source) -> tuple[nn.Module, int, Colour, Colour]:
    """Feature extractor, channels, mean and std; `source` as `backbones` resolved it."""
    model = _loaded(name, source)
    return Maps(model), int(model.num_features), *_colours(model)


def pyramid(name: str, source: Source) -> tuple[nn.Module, tuple[int, ...], Colour, Colour]:
    """Feature extractor with its maps of strides 2, 4, …, 32, their channels, mean and std.

    Raises `WrongValue` for a model that has no such maps, as plain transformers.
    """
    import timm

    whole = _loaded(name, source)
    # the whole model's weights, already checked; what lies behind the last level is not part of it
    weights = {"state_dict": whole.state_dict()}
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it names the weights of that part
    try:
        found = timm.create_model(name, pretrained=True, features_only=True, pretrained_cfg_overlay=weights)
    finally:
        logger.setLevel(level)
    info: Any = found.feature_info
    strides = list(info.reduction())
    if strides != [2 ** (k + 1) for k in range(len(strides))] or len(strides) < 2:
        raise WrongValue(
            f"{name} has maps at strides {', '.join(map(str, strides))}; a U-Net needs 2, 4, 8, …: choose a "
            f"convolutional encoder such as tf_efficientnet_lite0"
        )
    return found, tuple(info.channels()), *_colours(whole)


class Maps(nn.Module):
    """A timm model up to its last maps: (N, 3, H, W) → (N, C, h, w).

    A transformer's patch tokens are put back where they came from; its class and register tokens are left out.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self.model, "num_prefix_tokens"):
            height, width = (self._patches(*sides) for sides in zip(x.shape[2:], self._patch(), strict=True))
            tokens = self.model.forward_features(x)[:, self.model.num_prefix_tokens :]
            return tokens.transpose(1, 2).unflatten(2, (height, width))
        found = self.model.forward_features(x)
        return found.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else found

    def _patch(self) -> tuple[int, int]:
        return self.model.patch_embed.patch_size

    @staticmethod
    def _patches(side: int, patch: int) -> int:
        if side % patch:
            raise WrongValue(
                f"the encoder cuts images into patches of {patch} pixels, and {side} is no multiple of it: set side "
                f"(and training_side) to {max(1, round(side / patch)) * patch}"
            )
        return side // patch


def _loaded(name: str, source: Source) -> Any:
    """The model without its head, with its weights; a transformer takes images of any size its patches divide."""
    import timm

    if isinstance(source, str) and source == NAME:
        try:
            return _created(name, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise PretrainedError(
                f"the pretrained weights of {name} could not be downloaded ({str(error).splitlines()[0]}). Without "
                f"internet, put a .safetensors file of timm's {name} on this machine and set `pretrained` to its path, "
                f"or train from scratch with `pretrained=none`."
            ) from error
    if isinstance(source, str):
        return _created(name)
    if isinstance(source, dict):  # the packager's names, the layers in timm's order
        whole = timm.create_model(name).state_dict()
        return _with_state(name, dict(zip(whole, source.values(), strict=True)), "the installed file")
    state, from_bundle = stored(source)
    if from_bundle:
        state = {key.removeprefix("model."): value for key, value in state.items()}
    return _with_state(name, state, str(source))


def _with_state(name: str, state: dict[str, Tensor], what: str) -> Any:
    """The model with these weights; a head among them is left out, everything else must fit."""
    model = _created(name)
    wanted = model.state_dict()
    head = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{part}." for part in ([head] if isinstance(head, str) else head))
    given = {key: value for key, value in state.items() if key in wanted or not key.startswith(heads or ("\0",))}
    fits = given.keys() == wanted.keys() and all(given[key].shape == wanted[key].shape for key in wanted)
    if fits:
        model.load_state_dict(given)
        return model
    published = {"state_dict": _image_encoder(given), "classifier": None}
    try:  # as its authors published it: timm knows how to read that for many families
        return _created(name, pretrained=True, pretrained_cfg_overlay=published)
    except (RuntimeError, KeyError, AssertionError) as error:
        missing = sorted(wanted.keys() - given.keys())[:3]
        unexpected = sorted(given.keys() - wanted.keys())[:3]
        unlike = [key for key in wanted if key in given and given[key].shape != wanted[key].shape][:3]
        raise PretrainedError(
            f"{what} does not hold the weights of {name}: missing {missing}, unexpected {unexpected}, of another "
            f"shape {unlike}"
        ) from error


def _image_encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a larger model encodes an image: not how it compares it with text (CLIP), nor paints it again (MAE)."""
    left_out = ("visual.proj", "visual.head.", "module.visual.proj")
    if any(key.startswith("decoder_") for key in state):
        left_out += ("decoder_", "mask_token")
    return {key: value for key, value in state.items() if not key.startswith(left_out)}


def _created(name: str, **wishes: Any) -> Any:
    import timm

    with torch.device("meta"):
        plan = timm.create_model(name, num_classes=0)
    if hasattr(plan, "dynamic_img_size"):
        wishes["dynamic_img_size"] = True
    return timm.create_model(name, num_classes=0, **wishes)


def _colours(model: Any) -> tuple[Colour, Colour]:
    return tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])
